using ArchUnitNET.Loader;
using KvmTsc.PowerShell.Binding;
using Mono.Cecil;

namespace KvmTsc.Tests.Architecture;

/// <summary>The engine and the cmdlets, as they were compiled.</summary>
internal static class Assemblies
{
    // The second without its cmdlets, whose base classes are not here.
    private static readonly System.Reflection.Assembly[] s_ours = [typeof(KvmException).Assembly, typeof(VMReference).Assembly];

    /// <summary>Who uses whom.</summary>
    public static ArchUnitNET.Domain.Architecture Types { get; } = new ArchLoader().LoadAssemblies(s_ours).Build();

    /// <summary>Their code.</summary>
    public static IReadOnlyList<TypeDefinition> Code { get; } =
        [.. s_ours.SelectMany(assembly => ModuleDefinition.ReadModule(assembly.Location).GetTypes()).Where(type => !IsOfCompiler(Outermost(type)))];

    /// <summary>The namespace that a type stands in, also one within another type.</summary>
    public static string NamespaceOf(TypeDefinition type) => Outermost(type).Namespace;

    /// <summary>Fails and names all that there is.</summary>
    public static void AssertNone(IEnumerable<string> offences)
    {
        var all = offences.Distinct().ToArray();
        if (all.Length > 0)
            Assert.Fail(string.Join(Environment.NewLine, all));
    }

    private static TypeDefinition Outermost(TypeDefinition type) => type.DeclaringType is { } outer ? Outermost(outer) : type;

    private static bool IsOfCompiler(TypeDefinition type) => type.Name.StartsWith('<')
        || type.CustomAttributes.Any(attribute => attribute.AttributeType.Name is "CompilerGeneratedAttribute" or "GeneratedCodeAttribute" or "EmbeddedAttribute");
}
