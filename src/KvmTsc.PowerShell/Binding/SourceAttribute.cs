using System.Management.Automation;
using KvmTsc.Migration;

namespace KvmTsc.PowerShell.Binding;

/// <summary>
/// Lets a parameter take what clocks can be taken from: a captured state, or a VM by whatever names it. In a pipeline also a line of a plan,
/// an object with the property Source.
/// </summary>
[AttributeUsage(AttributeTargets.Property)]
public sealed class SourceAttribute : ArgumentTransformationAttribute
{
    private static readonly FromPropertiesAttribute s_state = new(typeof(KvmTscState));
    private static readonly FromPropertiesAttribute s_vm = new(typeof(VMReference));

    /// <inheritdoc/>
    public override object Transform(EngineIntrinsics engineIntrinsics, object inputData)
    {
        // A line of a plan, which names both sides.
        var source = Property(inputData, "Source") ?? inputData;
        return (IsState(source) ? s_state : s_vm).Transform(engineIntrinsics, source);
    }

    /// <summary>A state has what no other object has; one that came back from a job or a file is told by that too.</summary>
    private static bool IsState(object source) =>
        Property(source, nameof(KvmTscState.Vcpus)) is not null && Property(source, nameof(KvmTscState.Host)) is not null;

    private static object? Property(object? value, string name) => value is null ? null : PSObject.AsPSObject(value).Properties[name]?.Value;
}
