using KvmTsc.Interop;
using KvmTsc.Machines;

namespace KvmTsc.Clocks;

/// <summary>What a repair of a VM's master clock did, read back after it was written.</summary>
public sealed class KvmMasterClockRepair
{
    internal KvmMasterClockRepair(VMIdentity vm, MasterClockPlan plan, MasterClockSwitch? done, double stoppedMicroseconds)
    {
        VMName = vm.Name;
        ProcessId = vm.ProcessId;
        VMId = vm.Id;
        Changed = done is not null;
        OffsetTicks = plan.OffsetTicks;
        OldFlags = (KvmClockFlags)plan.Before.Clock.Flags;
        OldClockNanoseconds = done?.Old.Clock ?? plan.ClockNanoseconds;
        NewFlags = done is null ? OldFlags : (KvmClockFlags)done.New.Flags;
        NewClockNanoseconds = done?.New.Clock ?? OldClockNanoseconds;
        ClockJumpNanoseconds = done?.JumpNanoseconds ?? 0;
        Vcpus = plan.Vcpus;
        StoppedMicroseconds = stoppedMicroseconds;
    }

    /// <summary>The VM's name.</summary>
    public string VMName { get; }

    /// <summary>The process that runs the VM.</summary>
    public int ProcessId { get; }

    /// <summary>The VM among those of this host.</summary>
    public string VMId { get; }

    /// <summary>Whether anything was written: not where the offsets were equal and the master clock on.</summary>
    public bool Changed { get; }

    /// <summary>The offset that all vCPUs have now, in ticks.</summary>
    public long OffsetTicks { get; }

    /// <summary>The largest advance of a vCPU's TSC, in ticks.</summary>
    public long AdvancedTicks => Vcpus.Max(vcpu => vcpu.AdvancedTicks);

    /// <summary>The same in nanoseconds.</summary>
    public double AdvancedNanoseconds => Vcpus.Max(vcpu => vcpu.AdvancedNanoseconds);

    /// <summary>The clock's flags before; None while the master clock is off.</summary>
    public KvmClockFlags OldFlags { get; }

    /// <summary>The clock's flags now, read back.</summary>
    public KvmClockFlags NewFlags { get; }

    /// <summary>kvmclock before, in nanoseconds.</summary>
    public ulong OldClockNanoseconds { get; }

    /// <summary>kvmclock now, read back: it went on from what it was.</summary>
    public ulong NewClockNanoseconds { get; }

    /// <summary>
    /// By how much kvmclock was moved by turning the master clock on, at most, in nanoseconds: negative is held back. It was never set below
    /// a reading that was taken while all vCPUs stood still.
    /// </summary>
    public long ClockJumpNanoseconds { get; }

    /// <summary>The vCPUs, by ascending id.</summary>
    public IReadOnlyList<KvmVcpuTscAdvance> Vcpus { get; }

    /// <summary>For how long the VMM was stopped for this, in microseconds.</summary>
    public double StoppedMicroseconds { get; }
}
