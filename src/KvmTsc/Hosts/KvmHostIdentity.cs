namespace KvmTsc.Hosts;

/// <summary>Which host, which boot of it, and how well its clock was synchronised: what a state captured there depends on.</summary>
public sealed class KvmHostIdentity
{
    /// <summary>Creates a value.</summary>
    public KvmHostIdentity(
        string? machineName, string? machineId, string? bootId, string? kernelRelease, uint tscKHz, int clockStatus, long maxErrorMicroseconds,
        double slewPpm, int taiOffsetSeconds)
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

    /// <summary>By how much CLOCK_REALTIME may have been off, by adjtimex(2).</summary>
    public long MaxErrorMicroseconds { get; }

    /// <summary>By how much the kernel corrects the rate of CLOCK_REALTIME, in parts per million.</summary>
    public double SlewPpm { get; }

    /// <summary>TAI minus UTC, 0 where nobody told the kernel.</summary>
    public int TaiOffsetSeconds { get; }

    /// <summary>Whether both are the same boot of the same host, where one TSC went on.</summary>
    public bool IsSameBoot(KvmHostIdentity other) => IsBoot(other.BootId);

    /// <summary>Whether it is this host, not booted since.</summary>
    public bool IsThisBoot() => IsBoot(LocalHost.BootId);

    private bool IsBoot(string? id) => BootId is not null && BootId == id;
}
