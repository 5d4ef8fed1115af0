using System.Collections;
using System.Management.Automation;
using KvmTsc.Machines;

namespace KvmTsc.PowerShell.Binding;

/// <summary>
/// Lets a parameter take what came back from a job, a file or a remote session: an object of our types is rebuilt from its properties,
/// which are the names of its constructor's parameters.
/// </summary>
[AttributeUsage(AttributeTargets.Property)]
public sealed class FromPropertiesAttribute : ArgumentTransformationAttribute
{
    /// <summary>Rebuilds objects of a type.</summary>
    public FromPropertiesAttribute(Type type) => Type = type;

    /// <summary>The type.</summary>
    public Type Type { get; }

    /// <inheritdoc/>
    public override object Transform(EngineIntrinsics engineIntrinsics, object inputData)
    {
        var value = Unwrap(inputData);
        return value is IList list
            ? list.Cast<object?>().Select(item => Rebuild(Type, item)).ToArray()
            : Rebuild(Type, inputData)!;
    }

    private static object? Rebuild(Type type, object? input)
    {
        var value = Unwrap(input);
        if (value is null || type.IsInstanceOfType(value))
            return value;
        if (type == typeof(VMReference) && value is string name)
            return new VMReference(name, null, null);

        var source = PSObject.AsPSObject(input);
        var constructor = type.GetConstructors().MaxBy(constructor => constructor.GetParameters().Length)!;
        var parameters = constructor.GetParameters();
        if (value is string || value.GetType().IsPrimitive || !parameters.Any(parameter => Find(source, parameter.Name!) is not null))
            throw new ArgumentTransformationMetadataException($"'{value}' ({value.GetType().Name}) is no {type.Name}.");
        return constructor.Invoke([.. parameters.Select(parameter => Convert(Find(source, parameter.Name!), parameter.ParameterType, parameter.Name!, type))]);
    }

    private static object? Convert(PSPropertyInfo? property, Type type, string name, Type owner)
    {
        var value = property?.Value;
        if (value is null)
        {
            return !type.IsValueType || Nullable.GetUnderlyingType(type) is not null
                ? null
                : throw new ArgumentTransformationMetadataException($"This {owner.Name} has no {name}.");
        }

        if (type.IsArray && IsOurs(type.GetElementType()!))
            return RebuildArray(type.GetElementType()!, value);
        if (IsOurs(type))
            return Rebuild(type, value);
        try
        {
            return LanguagePrimitives.ConvertTo(value, type, System.Globalization.CultureInfo.InvariantCulture);
        }
        catch (PSInvalidCastException exception)
        {
            throw new ArgumentTransformationMetadataException($"The {name} of this {owner.Name} cannot be {value}: {exception.Message}", exception);
        }
    }

    private static Array RebuildArray(Type element, object value)
    {
        var items = LanguagePrimitives.GetEnumerable(value)?.Cast<object?>().ToArray() ?? [value];
        var array = Array.CreateInstance(element, items.Length);
        for (var i = 0; i < items.Length; i++)
            array.SetValue(Rebuild(element, items[i]), i);
        return array;
    }

    private static bool IsOurs(Type type) => type.Assembly == typeof(Machine).Assembly && !type.IsEnum;

    private static PSPropertyInfo? Find(PSObject source, string name) => source.Properties[name];

    private static object? Unwrap(object? value) => value is PSObject { BaseObject: not PSCustomObject } wrapper ? wrapper.BaseObject : value;
}
