namespace KvmTsc.Machines;

/// <summary>What a vCPU is doing.</summary>
public enum KvmVcpuState
{
    /// <summary>Its thread is not in <c>KVM_RUN</c>, or it has none.</summary>
    Stopped,

    /// <summary>In the guest, or on the way into or out of it: its thread runs.</summary>
    Running,

    /// <summary>In <c>KVM_RUN</c>, waiting for an interrupt.</summary>
    Halted,

    /// <summary>What its thread does cannot be told: see <see cref="KvmVM.Reason"/>.</summary>
    Unknown,
}

/// <summary>A vCPU of a VM, as it was when it was looked at.</summary>
public sealed class KvmVcpu
{
    /// <summary>Creates a value.</summary>
    public KvmVcpu(string? vmName, int processId, string? vmId, int vcpuId, int? threadId, KvmVcpuState state)
    {
        VMName = vmName;
        ProcessId = processId;
        VMId = vmId;
        VcpuId = vcpuId;
        ThreadId = threadId;
        State = state;
    }

    /// <summary>The VM's name.</summary>
    public string? VMName { get; }

    /// <summary>The process that runs the VM.</summary>
    public int ProcessId { get; }

    /// <summary>The VM among those of this host.</summary>
    public string? VMId { get; }

    /// <summary>The vCPU.</summary>
    public int VcpuId { get; }

    /// <summary>The thread that runs it, null if none does.</summary>
    public int? ThreadId { get; }

    /// <summary>What it is doing.</summary>
    public KvmVcpuState State { get; }
}
