using System.Management.Automation;
using KvmTsc.Migration;

namespace KvmTsc.PowerShell.Binding;

/// <summary>Lets a parameter take what clocks can be taken from: a captured state, or a VM by whatever names it.</summary>
[AttributeUsage(AttributeTargets.Property)]
public sealed class SourceAttribute : ArgumentTransformationAttribute
{
    private static readonly FromPropertiesAttribute s_state = new(typeof(KvmTscState));
    private static readonly FromPropertiesAttribute s_vm = new(typeof(VMReference));

    /// <inheritdoc/>
    public override object Transform(EngineIntrinsics engineIntrinsics, object inputData) =>
        (IsState(inputData) ? s_state : s_vm).Transform(engineIntrinsics, inputData);

    /// <summary>A state has what no other object has; one that came back from a job or a file is told by that too.</summary>
    private static bool IsState(object inputData) =>
        inputData is not null && PSObject.AsPSObject(inputData).Properties is var properties
        && properties[nameof(KvmTscState.Vcpus)] is not null && properties[nameof(KvmTscState.Host)] is not null;
}
