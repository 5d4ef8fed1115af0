namespace KvmTsc.Execution.Attach;

/// <summary>A VM of another process, as its descriptors there show it.</summary>
/// <param name="ProcessId">The process.</param>
/// <param name="StartTime">When it started, in ticks since boot (field 22 of its stat): a process id that was reused has another.</param>
/// <param name="VMName">The VM's name, for messages.</param>
/// <param name="VMDescriptor">The process's descriptor of the VM.</param>
/// <param name="VcpuDescriptors">One descriptor of each vCPU, by vCPU id.</param>
/// <param name="DebugfsDirectory">The VM's directory in KVM's debugfs, null if it cannot be read or told.</param>
public sealed record AttachTarget(
    int ProcessId,
    ulong StartTime,
    string VMName,
    int VMDescriptor,
    IReadOnlyDictionary<int, int> VcpuDescriptors,
    string? DebugfsDirectory)
{
    /// <summary>The vCPU of each descriptor: a process may have several of one, and run it by any.</summary>
    public IReadOnlyDictionary<int, int> VcpuIds { get; init; } = VcpuDescriptors.ToDictionary(vcpu => vcpu.Value, vcpu => vcpu.Key);
}
