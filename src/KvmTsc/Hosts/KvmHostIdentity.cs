namespace KvmTsc.Hosts;

/// <summary>Which host, which boot of it, and how well its clock was synchronised: what a state captured there depends on.</summary>
public sealed class KvmHostIdentity
{
    /// <summary>Creates a value.</summary>
    public KvmHostIdentity(
        string? machineName, string? machineId, string? bootId, string? kernelRelease, uint tscKHz, int clockStatus, long maxErrorMicroseconds,
        double slewPpm, int taiOffsetSeconds, ulong? hostTsc = null, ulong? realtimeNanoseconds = null, ulong? monotonicRawNanoseconds = null,
        ulong? suspendedNanoseconds = null, bool? isVirtual = null)
    {
        MachineName = machineName;
        MachineId = machineId;
        BootId = bootId;
        KernelRelease = kernelRelease;
        TscKHz = tscKHz;
        ClockStatus = clockStatus;
        MaxErrorMicroseconds = maxErrorMicroseconds;
        SlewPpm = slewPpm;
        TaiOffsetSeconds = taiOffsetSeconds;
        HostTsc = hostTsc;
        RealtimeNanoseconds = realtimeNanoseconds;
        MonotonicRawNanoseconds = monotonicRawNanoseconds;
        SuspendedNanoseconds = suspendedNanoseconds;
        IsVirtual = isVirtual;
    }

    /// <summary>The host's name.</summary>
    public string? MachineName { get; }

    /// <summary>The host's installation, of machine-id(5).</summary>
    public string? MachineId { get; }

    /// <summary>The boot: a TSC goes on within one, and starts anew with the next.</summary>
    public string? BootId { get; }

    /// <summary>The kernel.</summary>
    public string? KernelRelease { get; }

    /// <summary>The host's TSC frequency as KVM uses it.</summary>
    public uint TscKHz { get; }

    /// <summary>Whether CLOCK_REALTIME was synchronised, by adjtimex(2).</summary>
    public bool ClockSynchronized => HostClock.IsSynchronized(ClockStatus);

    /// <summary>The status word of adjtimex(2), the <c>STA_</c> bits of linux/timex.h.</summary>
    public int ClockStatus { get; }

    /// <summary>
    /// By how much CLOCK_REALTIME may have been off, by adjtimex(2): its maximum error, or what it takes for the error where that is more, and what it is yet
    /// to make up for.
    /// </summary>
    public long MaxErrorMicroseconds { get; }

    /// <summary>By how much the kernel corrects the rate of CLOCK_REALTIME, in parts per million.</summary>
    public double SlewPpm { get; }

    /// <summary>TAI minus UTC, 0 where nobody told the kernel.</summary>
    public int TaiOffsetSeconds { get; }

    /// <summary>The host's TSC when this was read, and with it the clocks that follow; null, as these, in a state of version 1.</summary>
    public ulong? HostTsc { get; }

    /// <summary>CLOCK_REALTIME then, in nanoseconds.</summary>
    public ulong? RealtimeNanoseconds { get; }

    /// <summary>CLOCK_MONOTONIC_RAW then, in nanoseconds: a clock that nothing corrects.</summary>
    public ulong? MonotonicRawNanoseconds { get; }

    /// <summary>For how long the host had been suspended since it booted: CLOCK_BOOTTIME less CLOCK_MONOTONIC, in nanoseconds.</summary>
    public ulong? SuspendedNanoseconds { get; }

    /// <summary>Whether the host is a virtual machine itself, which may be paused and moved without its knowledge.</summary>
    public bool? IsVirtual { get; }

    /// <summary>Whether both are the same boot of the same host, where one TSC went on.</summary>
    public bool IsSameBoot(KvmHostIdentity other) => IsBoot(other.BootId);

    /// <summary>Whether it is this host, not booted since.</summary>
    public bool IsThisBoot() => IsBoot(LocalHost.BootId);

    private bool IsBoot(string? id) => BootId is not null && BootId == id;
}
