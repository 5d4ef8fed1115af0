namespace KvmTsc.Tests.Architecture;

public sealed class LayerTests
{
    private const string Interop = "KvmTsc.Interop";

    /// <summary>From top to bottom: each uses those below it, and nothing above.</summary>
    private static readonly string[] s_layers =
    [
        "KvmTsc.PowerShell",
        "KvmTsc.PowerShell.Commands",
        "KvmTsc.PowerShell.Remoting",
        "KvmTsc.PowerShell.Completion",
        "KvmTsc.PowerShell.Wording",
        "KvmTsc.PowerShell.Errors",
        "KvmTsc.PowerShell.Binding",
        "KvmTsc.Watching",
        "KvmTsc.States",
        "KvmTsc.Migration.Preflight",
        "KvmTsc.Migration",
        "KvmTsc.SelfTest",
        "KvmTsc.Discovery",
        "KvmTsc.Local",
        "KvmTsc.Clocks",
        "KvmTsc.Machines",
        "KvmTsc.Execution.Attach",
        "KvmTsc.Execution",
        "KvmTsc.Hosts",
        "KvmTsc.Processes",
        Interop,
        "KvmTsc.Arithmetic",
        "KvmTsc",
    ];

    public static TheoryData<string> Layers => [.. s_layers];

    [Fact]
    public void The_layers_are_the_namespaces() =>
        Assert.Equal(s_layers.Order(), Assemblies.Code.Select(Assemblies.NamespaceOf).Distinct().Order());

    [Theory]
    [MemberData(nameof(Layers))]
    public void A_layer_uses_only_those_below_it(string layer)
    {
        var higher = s_layers.TakeWhile(name => name != layer).ToHashSet();
        var upwards =
            from type in Assemblies.Types.Types
            where type.Namespace.FullName == layer
            from dependency in type.Dependencies
            where dependency.Target.Namespace is { } used && higher.Contains(used.FullName)
            select $"{type.FullName} uses {dependency.Target.FullName}";
        Assemblies.AssertNone(upwards);
    }

    [Fact]
    public void Only_Interop_imports_native_functions()
    {
        var importing = Assemblies.Code.Where(type => type.Methods.Any(method => method.IsPInvokeImpl)).ToArray();
        Assert.NotEmpty(importing);
        Assert.All(importing, type => Assert.Equal(Interop, Assemblies.NamespaceOf(type)));
    }
}
