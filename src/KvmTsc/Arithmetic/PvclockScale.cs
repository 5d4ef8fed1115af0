namespace KvmTsc.Arithmetic;

/// <summary>
/// A rate as kvmclock has it: a shift, then a multiplication by a 32-bit fraction. <c>kvm_get_time_scale</c> in arch/x86/kvm/x86.c.
/// </summary>
/// <param name="Multiplier">The fraction, in units of 2^-32.</param>
/// <param name="Shift">Places to the left before the multiplication, to the right if negative.</param>
public readonly record struct PvclockScale(uint Multiplier, int Shift)
{
    private const ulong NanosecondsPerSecond = 1_000_000_000;

    /// <summary>From ticks of a TSC to nanoseconds, as a guest computes its kvmclock.</summary>
    public static PvclockScale ToNanoseconds(uint kHz)
    {
        ArgumentOutOfRangeException.ThrowIfZero(kHz);
        return Between(NanosecondsPerSecond, kHz * 1000UL);
    }

    /// <summary>Scales a difference, rounding down at each step.</summary>
    public ulong Apply(ulong delta)
    {
        var shifted = Shift < 0 ? delta >> -Shift : delta << Shift;
        return TscArithmetic.Scale(shifted, Multiplier, 32);
    }

    /// <summary>The same rate as one fraction, <c>multiplier / 2^fractionBits</c>, with which the result is at most a unit larger.</summary>
    public (ulong Multiplier, int FractionBits) ToFraction() => Shift < 0 ? (Multiplier, 32 - Shift) : ((ulong)Multiplier << Shift, 32);

    private static PvclockScale Between(ulong scaledHz, ulong baseHz)
    {
        var shift = 0;
        for (; baseHz > scaledHz * 2 || baseHz > uint.MaxValue; shift--)
            baseHz >>= 1;
        for (; baseHz <= scaledHz || scaledHz > uint.MaxValue; shift++)
        {
            if (scaledHz > uint.MaxValue || baseHz > int.MaxValue)
                scaledHz >>= 1;
            else
                baseHz <<= 1;
        }

        return new PvclockScale((uint)((scaledHz << 32) / baseHz), shift);
    }
}
