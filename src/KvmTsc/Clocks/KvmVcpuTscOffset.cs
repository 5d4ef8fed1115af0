using KvmTsc.Machines;

namespace KvmTsc.Clocks;

/// <summary>Where an offset was read.</summary>
public enum KvmOffsetSource
{
    /// <summary>KVM_VCPU_TSC_OFFSET, by an ioctl of the process that runs the VM.</summary>
    Ioctl,

    /// <summary>The kernel's record in debugfs, which stops nothing.</summary>
    Debugfs,
}

/// <summary>The TSC offset of a vCPU: what KVM adds to the scaled host TSC, modulo 2^64.</summary>
public sealed class KvmVcpuTscOffset
{
    /// <summary>Creates a value.</summary>
    public KvmVcpuTscOffset(string? vmName, int processId, string? vmId, int vcpuId, long offsetTicks, double stoppedMicroseconds, KvmOffsetSource? source)
    {
        VMName = vmName;
        ProcessId = processId;
        VMId = vmId;
        VcpuId = vcpuId;
        OffsetTicks = offsetTicks;
        StoppedMicroseconds = stoppedMicroseconds;
        Source = source;
    }

    internal KvmVcpuTscOffset(VMIdentity vm, int vcpuId, long offsetTicks, double stoppedMicroseconds, KvmOffsetSource source = KvmOffsetSource.Ioctl)
        : this(vm.Name, vm.ProcessId, vm.Id, vcpuId, offsetTicks, stoppedMicroseconds, source)
    {
    }

    /// <summary>The VM's name.</summary>
    public string? VMName { get; }

    /// <summary>The process that runs the VM.</summary>
    public int ProcessId { get; }

    /// <summary>The VM among those of this host.</summary>
    public string? VMId { get; }

    /// <summary>The vCPU.</summary>
    public int VcpuId { get; }

    /// <summary>The offset in ticks of the guest's TSC.</summary>
    public long OffsetTicks { get; }

    /// <summary>For how long the VMM was stopped for this, in microseconds.</summary>
    public double StoppedMicroseconds { get; }

    /// <summary>Where it was read, null if it was computed.</summary>
    public KvmOffsetSource? Source { get; }
}
