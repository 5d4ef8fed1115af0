namespace KvmTsc.Arithmetic;

/// <summary>
/// How hardware scales the host's TSC for a guest: <c>guest = (host * Multiplier) >> FractionBits</c>. The default value scales nothing.
/// </summary>
/// <param name="Multiplier">The ratio as a fixed-point number, 0 for no scaling.</param>
/// <param name="FractionBits">Its fraction bits: 48 on Intel, 32 on AMD.</param>
public readonly record struct TscRatio(ulong Multiplier, int FractionBits)
{
    /// <summary>No scaling.</summary>
    public static TscRatio None => default;

    /// <summary>Whether this ratio changes anything.</summary>
    public bool Scales => Multiplier != 0 && Multiplier != 1UL << FractionBits;

    /// <summary>The frequency that a guest's TSC runs at on a host of this one.</summary>
    public double ScaleFrequency(double hostKHz) => Multiplier == 0 ? hostKHz : hostKHz * (Multiplier / Math.Pow(2, FractionBits));

    /// <summary>By how much faster than its frequency a guest's TSC runs on a host of this one, in parts per million; 0 for a guest without a frequency.</summary>
    public double UnscaledPpm(uint guestKHz, uint hostKHz) => guestKHz == 0 ? 0 : (ScaleFrequency(hostKHz) - guestKHz) / guestKHz * 1e6;

    /// <summary>By how much faster one TSC is than another, of which each is off the same frequency by so much, in parts per million.</summary>
    public static double SpreadPpm(double slowerPpm, double fasterPpm) => (fasterPpm - slowerPpm) / (1 + (slowerPpm / 1e6));

    /// <summary>
    /// By how much the kvmclock that a guest computes runs faster than what KVM_GET_CLOCK gives, in parts per million: the guest's scale is for its own frequency
    /// in whole kHz, <c>kvm_scale_tsc</c> of the host's in <c>kvm_guest_time_update</c>, KVM's for the host's (arch/x86/kvm/x86.c).
    /// </summary>
    public double KvmclockPpm(uint hostKHz) => !Scales ? 0
        : (uint)Apply(hostKHz) is var guestKHz && guestKHz == 0 ? double.PositiveInfinity
        : ((ScaleFrequency(NanosecondsPerTick(guestKHz)) / NanosecondsPerTick(hostKHz)) - 1) * 1e6;

    private static double NanosecondsPerTick(uint kHz)
    {
        var (multiplier, fractionBits) = PvclockScale.ToNanoseconds(kHz).ToFraction();
        return multiplier / Math.Pow(2, fractionBits);
    }

    /// <summary>Scales a host TSC as the hardware does, modulo 2^64.</summary>
    public ulong Apply(ulong hostTsc) => Multiplier == 0 ? hostTsc : TscArithmetic.Scale(hostTsc, Multiplier, FractionBits);
}
