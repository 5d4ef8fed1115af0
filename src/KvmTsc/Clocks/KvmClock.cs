using KvmTsc.Interop;
using KvmTsc.Machines;

namespace KvmTsc.Clocks;

/// <summary>
/// A reading of a VM's kvmclock by <c>KVM_GET_CLOCK</c>: step 1, and step 5, of the algorithm. With the flags HostTsc and Realtime it is the triple
/// of kvmclock, host TSC and CLOCK_REALTIME at one instant.
/// </summary>
public sealed class KvmClock
{
    /// <summary>Creates a reading from its values: those that the flags do not vouch for are none, whatever stands there.</summary>
    public KvmClock(
        string? vmName, int processId, string? vmId, ulong clockNanoseconds, ulong? realtimeNanoseconds, ulong? hostTsc, KvmClockFlags flags,
        double stoppedMicroseconds)
    {
        VMName = vmName;
        ProcessId = processId;
        VMId = vmId;
        ClockNanoseconds = clockNanoseconds;
        RealtimeNanoseconds = flags.HasFlag(KvmClockFlags.Realtime) ? realtimeNanoseconds : null;
        HostTsc = flags.HasFlag(KvmClockFlags.HostTsc) ? hostTsc : null;
        Flags = flags;
        StoppedMicroseconds = stoppedMicroseconds;
    }

    internal KvmClock(VMIdentity vm, KvmClockData data, double stoppedMicroseconds) : this(
        vm.Name, vm.ProcessId, vm.Id, data.Clock, data.Realtime, data.HostTsc, (KvmClockFlags)data.Flags, stoppedMicroseconds)
    {
    }

    /// <summary>The VM's name.</summary>
    public string? VMName { get; }

    /// <summary>The process that runs the VM.</summary>
    public int ProcessId { get; }

    /// <summary>The VM among those of this host.</summary>
    public string? VMId { get; }

    /// <summary>kvmclock in nanoseconds.</summary>
    public ulong ClockNanoseconds { get; }

    /// <summary>The host's CLOCK_REALTIME at that instant in nanoseconds, null without the flag Realtime.</summary>
    public ulong? RealtimeNanoseconds { get; }

    /// <summary>The host's TSC at that instant, null without the flag HostTsc.</summary>
    public ulong? HostTsc { get; }

    /// <summary>The flags that the kernel gave.</summary>
    public KvmClockFlags Flags { get; }

    /// <summary>For how long the VMM was stopped for this, in microseconds.</summary>
    public double StoppedMicroseconds { get; }
}
