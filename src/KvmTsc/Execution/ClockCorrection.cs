using System.Runtime.InteropServices;

namespace KvmTsc.Execution;

/// <summary>
/// By how much a clock was set wrong, within a batch's memory: where it should stand at the instant of a reading, less where it stands, is
/// added to what is set next. Where it should stand is a line through the source's clock.
/// </summary>
[StructLayout(LayoutKind.Sequential)]
public struct ClockCorrection
{
    /// <summary>kvmclock on the source, in nanoseconds.</summary>
    public ulong SourceClock;

    /// <summary>The instant of that, in units of the instants of this line: CLOCK_REALTIME or the host's TSC.</summary>
    public ulong SourceInstant;

    /// <summary>The nanoseconds in such a unit, in units of 2^-<see cref="FractionBits"/>.</summary>
    public ulong Multiplier;

    /// <summary>The fraction bits of <see cref="Multiplier"/>.</summary>
    public uint FractionBits;

    /// <summary>Where the instant of the reading is, an offset into the batch's memory.</summary>
    public int InstantSlot;

    /// <summary>Where the clock of the reading is, an offset into the batch's memory.</summary>
    public int ClockSlot;

    /// <summary>Where the clock to be set is, an offset into the batch's memory.</summary>
    public int ResultSlot;
}
