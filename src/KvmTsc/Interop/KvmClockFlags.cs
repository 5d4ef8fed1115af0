namespace KvmTsc.Interop;

/// <summary>The <c>KVM_CLOCK_*</c> flags of a clock reading.</summary>
[Flags]
public enum KvmClockFlags
{
    /// <summary>A VM that never ran, or whose vCPUs' TSC offsets differ.</summary>
    None = 0,

    /// <summary>All vCPUs see one clock: the master clock is on.</summary>
    TscStable = 2,

    /// <summary>CLOCK_REALTIME was read at the same instant.</summary>
    Realtime = 4,

    /// <summary>The host's TSC was read at the same instant.</summary>
    HostTsc = 8,
}
