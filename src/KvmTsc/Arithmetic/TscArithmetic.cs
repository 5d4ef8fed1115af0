namespace KvmTsc.Arithmetic;

/// <summary>
/// The arithmetic of guest TSCs, exact: products in 128 bits, divisions as C does them (towards zero), sums modulo 2^64 as the hardware's.
/// </summary>
public static class TscArithmetic
{
    /// <summary>Nanoseconds in a tick of one kHz.</summary>
    private const int NanosecondsPerMillisecond = 1_000_000;

    /// <summary>The ticks that a TSC of <paramref name="kHz"/> makes in a time, <c>ns * kHz / 10^6</c>.</summary>
    public static Int128 TicksIn(long nanoseconds, uint kHz) => (Int128)nanoseconds * kHz / NanosecondsPerMillisecond;

    /// <summary>The time that a TSC of <paramref name="kHz"/> takes for some ticks, <c>ticks * 10^6 / kHz</c>.</summary>
    public static Int128 NanosecondsIn(long ticks, uint kHz) => (Int128)ticks * NanosecondsPerMillisecond / kHz;

    /// <summary>How far <paramref name="to"/> lies after <paramref name="from"/> on a 64-bit counter that wraps; negative if it lies before.</summary>
    public static long Distance(ulong from, ulong to) => unchecked((long)(to - from));

    /// <summary>Scales by a fixed-point number, modulo 2^64.</summary>
    public static ulong Scale(ulong value, ulong multiplier, int fractionBits) => (ulong)(((UInt128)value * multiplier) >> fractionBits);

    /// <summary>The guest TSC at a host TSC.</summary>
    public static ulong GuestTsc(ulong hostTsc, TscRatio ratio, ulong offset) => unchecked(ratio.Apply(hostTsc) + offset);

    /// <summary>The host TSC at which the guest's is so much: the first that scales to it or to more, on a host that has not run for a century.</summary>
    public static ulong HostTsc(ulong guestTsc, TscRatio ratio, ulong offset)
    {
        var scaled = unchecked(guestTsc - offset);
        return ratio.Multiplier == 0 ? scaled : (ulong)((((UInt128)scaled << ratio.FractionBits) + ratio.Multiplier - 1) / ratio.Multiplier);
    }

    /// <summary>
    /// Step 6 of the algorithm in Documentation/virt/kvm/devices/vcpu.rst, with scaling on either side: the offset with which the
    /// guest TSC on the destination is the source's, moved on by as much as kvmclock moved on.
    /// </summary>
    /// <param name="sourceGuestTsc">The guest TSC on the source when its clock was read (<see cref="GuestTsc"/>).</param>
    /// <param name="sourceClock">kvmclock on the source then, in nanoseconds.</param>
    /// <param name="destinationHostTsc">The destination's host TSC when its clock was read.</param>
    /// <param name="destinationClock">kvmclock on the destination then, in nanoseconds.</param>
    /// <param name="kHz">The guest's TSC frequency.</param>
    /// <param name="destinationRatio">How the destination scales its TSC for this guest.</param>
    public static ulong ResolveOffset(
        ulong sourceGuestTsc, ulong sourceClock, ulong destinationHostTsc, ulong destinationClock, uint kHz, TscRatio destinationRatio)
    {
        var elapsed = TicksIn(Distance(sourceClock, destinationClock), kHz);
        return unchecked(sourceGuestTsc + (ulong)elapsed - destinationRatio.Apply(destinationHostTsc));
    }
}
