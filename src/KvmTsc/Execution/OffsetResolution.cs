using System.Runtime.InteropServices;

namespace KvmTsc.Execution;

/// <summary>What step 6 needs to know of one vCPU, within a batch's memory.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct OffsetResolution
{
    /// <summary>The guest TSC on the source when its clock was read: the scaled host TSC plus the offset.</summary>
    public ulong SourceGuestTsc;

    /// <summary>kvmclock on the source at that instant, in nanoseconds.</summary>
    public ulong SourceClock;

    /// <summary>The multiplier of the destination's TSC ratio, 0 for no scaling.</summary>
    public ulong Ratio;

    /// <summary>The fraction bits of <see cref="Ratio"/>.</summary>
    public uint FractionBits;

    /// <summary>The guest's TSC frequency in kHz.</summary>
    public uint KHz;

    /// <summary>Where the destination's clock reading is, an offset into the batch's memory.</summary>
    public int ClockSlot;

    /// <summary>Where the resolved offset goes, an offset into the batch's memory.</summary>
    public int ResultSlot;

    /// <summary>Where the host's TSC at that reading is, an offset into the batch's memory.</summary>
    public int TscSlot;
}
