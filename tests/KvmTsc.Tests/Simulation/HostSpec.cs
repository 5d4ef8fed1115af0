using KvmTsc.Interop;

namespace KvmTsc.Tests.Simulation;

/// <summary>A host to be simulated.</summary>
/// <param name="TscHz">What its TSC really runs at.</param>
/// <param name="TscKHz">What its kernel took it for when it booted.</param>
/// <param name="TscStart">Its TSC when the simulation begins.</param>
/// <param name="Scaling">Its TSC scaling.</param>
internal sealed record HostSpec(ulong TscHz, uint TscKHz, ulong TscStart, TscScaling Scaling)
{
    public string Name { get; init; } = "host";

    public string BootId { get; init; } = Guid.NewGuid().ToString();

    /// <summary>How far CLOCK_REALTIME is from the true time.</summary>
    public long RealtimeErrorNanoseconds { get; init; }

    public bool ClockSynchronized { get; init; } = true;

    /// <summary>Who keeps CLOCK_REALTIME, and so what adjtimex(2) says of it.</summary>
    public ClockKeeper Keeper { get; init; }

    /// <summary>By how much faster CLOCK_MONOTONIC_RAW runs than its TSC in whole kHz says, as its scale is rounded: up to 160 in a billion either way.</summary>
    public long RawPartsPerBillion { get; init; }

    /// <summary>By how much faster CLOCK_REALTIME runs than the true time.</summary>
    public double RealtimePpm { get; init; }

    public int TaiOffsetSeconds { get; init; } = 37;

    /// <summary>Whether it has a leap second behind it that others have not: its CLOCK_REALTIME is a second behind.</summary>
    public bool HadLeapSecond { get; init; }

    /// <summary>Whether the host is a virtual machine itself.</summary>
    public bool IsVirtual { get; init; }

    /// <summary>The flags that its kernel's KVM_GET_CLOCK knows.</summary>
    public KvmClockFlags ClockFlags { get; init; } = KvmClockFlags.TscStable | KvmClockFlags.Realtime | KvmClockFlags.HostTsc;

    public uint TolerancePpm { get; init; } = 250;

    /// <summary>The errno of a kernel without KVM_VCPU_TSC_OFFSET, 0 for one that has it.</summary>
    public int OffsetErrno { get; init; }

    public long IoctlPicoseconds { get; init; } = 700_000;

    /// <summary>An ordinary machine, 1 GHz by its kernel's word.</summary>
    public static HostSpec Ordinary { get; } = new(1_000_000_400, 1_000_000, 123_456_789_012, TscScaling.None);
}
