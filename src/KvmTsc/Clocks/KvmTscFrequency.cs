using KvmTsc.Arithmetic;
using KvmTsc.Machines;

namespace KvmTsc.Clocks;

/// <summary>The TSC frequency of a vCPU, and how the host's TSC is scaled to it.</summary>
public sealed class KvmTscFrequency
{
    /// <summary>Creates a value.</summary>
    public KvmTscFrequency(
        string? vmName, int processId, string? vmId, int vcpuId, uint tscKHz, uint hostTscKHz, ulong scalingRatio, int scalingFractionBits,
        double stoppedMicroseconds)
    {
        VMName = vmName;
        ProcessId = processId;
        VMId = vmId;
        VcpuId = vcpuId;
        TscKHz = tscKHz;
        HostTscKHz = hostTscKHz;
        ScalingRatio = scalingRatio;
        ScalingFractionBits = scalingFractionBits;
        StoppedMicroseconds = stoppedMicroseconds;
    }

    internal KvmTscFrequency(VMIdentity vm, int vcpuId, uint tscKHz, uint hostTscKHz, TscRatio ratio, double stoppedMicroseconds)
        : this(vm.Name, vm.ProcessId, vm.Id, vcpuId, tscKHz, hostTscKHz, ratio.Multiplier, ratio.FractionBits, stoppedMicroseconds)
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

    /// <summary>The guest's TSC frequency in kHz, as <c>KVM_GET_TSC_KHZ</c> gives it.</summary>
    public uint TscKHz { get; }

    /// <summary>The host's TSC frequency in kHz, as KVM uses it.</summary>
    public uint HostTscKHz { get; }

    /// <summary>The multiplier of hardware scaling, <c>2^ScalingFractionBits</c> for one to one; 0 without hardware scaling.</summary>
    public ulong ScalingRatio { get; }

    /// <summary>The fraction bits of <see cref="ScalingRatio"/>: 48 on Intel, 32 on AMD, 0 without hardware scaling.</summary>
    public int ScalingFractionBits { get; }

    /// <summary>How far the guest's frequency is from what it really runs at, in parts per million: KVM tolerates 250 ppm and scales nothing then.</summary>
    public double UnscaledPpm => new TscRatio(ScalingRatio, ScalingFractionBits).UnscaledPpm(TscKHz, HostTscKHz);

    /// <summary>For how long the VMM was stopped for this, in microseconds.</summary>
    public double StoppedMicroseconds { get; }
}
