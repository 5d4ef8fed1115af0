namespace KvmTsc.Execution.Attach;

/// <summary>A VM of another process, as its descriptors there show it.</summary>
/// <param name="ProcessId">The process.</param>
/// <param name="StartTime">When it started, in ticks since boot (field 22 of its stat): a process id that was reused has another.</param>
/// <param name="VMName">The VM's name, for messages.</param>
/// <param name="VMDescriptor">The process's descriptor of the VM.</param>
/// <param name="VcpuDescriptors">The descriptors of each vCPU, by vCPU id: a process may have several of one, and run it by any.</param>
/// <param name="DebugfsDirectory">The VM's directory in KVM's debugfs, null if it cannot be read or told.</param>
public sealed record AttachTarget(
    int ProcessId,
    ulong StartTime,
    string VMName,
    int VMDescriptor,
    IReadOnlyDictionary<int, IReadOnlyList<int>> VcpuDescriptors,
    string? DebugfsDirectory);
