namespace KvmTsc.Arithmetic;

/// <summary>What a host's TSC is like, and the kernel's rules for guests whose frequency differs from it.</summary>
/// <param name="KHz">The host's TSC frequency as KVM uses it.</param>
/// <param name="FractionBits">The fraction bits of hardware scaling, 0 without hardware scaling.</param>
/// <param name="TolerancePpm">How far a guest's frequency may be off before KVM scales: the parameter <c>tsc_tolerance_ppm</c>.</param>
public sealed record HostTscTraits(uint KHz, int FractionBits, uint TolerancePpm)
{
    /// <summary>The fraction bits of Intel's TSC multiplier.</summary>
    public const int IntelFractionBits = 48;

    /// <summary>The fraction bits of AMD's TSC ratio MSR.</summary>
    public const int AmdFractionBits = 32;

    /// <summary>The kernel's default of <c>tsc_tolerance_ppm</c>.</summary>
    public const uint DefaultTolerancePpm = 250;

    /// <summary>The largest tolerance that is one: all of the frequency.</summary>
    public const uint Million = 1_000_000;

    /// <summary>Whether the hardware scales TSCs.</summary>
    public bool HasScaling => FractionBits != 0;

    /// <summary>Whether KVM runs a guest of this frequency at the host's own rate.</summary>
    public bool Tolerates(uint guestKHz) =>
        guestKHz >= LowestTolerated && guestKHz <= HighestTolerated;

    /// <summary>The lowest frequency at which KVM runs a guest at the host's own rate.</summary>
    internal ulong LowestTolerated => Adjusted(Million - TolerancePpm);

    /// <summary>The highest frequency at which KVM runs a guest at the host's own rate.</summary>
    internal ulong HighestTolerated => Adjusted(Million + TolerancePpm);

    /// <summary>The lowest frequency that KVM gives a guest: it scales any down, by 32 bits or more.</summary>
    public uint LowestGuestKHz => HasScaling ? 1 : (uint)Math.Max(1, LowestTolerated);

    /// <summary>The highest frequency that KVM gives a guest without chasing it in software.</summary>
    public uint HighestGuestKHz => HasScaling ? (uint)(MaximumKHz - 1) : (uint)Math.Min(int.MaxValue, HighestTolerated);

    /// <summary>The ratio of a guest that runs at the host's rate.</summary>
    public TscRatio Unscaled => HasScaling ? new TscRatio(1UL << FractionBits, FractionBits) : TscRatio.None;

    /// <summary>Whether KVM takes this frequency, be it by chasing it in software (<see cref="NeedsCatchUp"/>).</summary>
    public bool Supports(uint guestKHz) =>
        HasScaling
            ? guestKHz < MaximumKHz && (Tolerates(guestKHz) || (Multiplier(guestKHz) is var multiplier && multiplier != 0 && multiplier < MaximumMultiplier))
            : guestKHz <= int.MaxValue && (Tolerates(guestKHz) || guestKHz > KHz);

    /// <summary>
    /// The ratio that KVM gives a vCPU of this frequency, <c>set_tsc_khz</c> in arch/x86/kvm/x86.c: none within the tolerance,
    /// else <c>floor(2^FractionBits * guest / host)</c>.
    /// </summary>
    /// <exception cref="KvmException">The kernel refuses this frequency on such a host.</exception>
    public TscRatio RatioFor(uint guestKHz)
    {
        if (!Supports(guestKHz))
            throw HasScaling || guestKHz > KHz ? OutOfRange(guestKHz) : TooSlow(guestKHz);
        return !HasScaling || Tolerates(guestKHz) ? Unscaled : Scaled(guestKHz);
    }


    /// <summary>The ratio of a vCPU that has this frequency, even one that the kernel would not give it now.</summary>
    internal TscRatio RatioAt(uint guestKHz) => Supports(guestKHz) ? RatioFor(guestKHz) : Unscaled;

    /// <summary>
    /// The same where debugfs shows a ratio. While a vCPU runs a guest of its guest, that is that one's: debugfs only tells which of the two it is that KVM can
    /// have given the guest itself, by a tolerance that may have been another one then.
    /// </summary>
    internal TscRatio RatioAt(uint guestKHz, TscRatio? shown) => shown is { } ratio && (ratio == Unscaled || (Supports(guestKHz) && ratio == Scaled(guestKHz)))
        ? ratio
        : RatioAt(guestKHz);

    /// <summary>
    /// Whether KVM would chase this frequency in software: faster than the host and no scaling. The guest's TSC then leaps at every
    /// exit, and KVM never leaves that mode again.
    /// </summary>
    public bool NeedsCatchUp(uint guestKHz) => !HasScaling && !Tolerates(guestKHz) && guestKHz > KHz;

    private ulong MaximumMultiplier => FractionBits == AmdFractionBits ? 0x000000FF_FFFFFFFF : ulong.MaxValue;

    /// <summary>The first frequency that is too much, <c>kvm_caps.max_guest_tsc_khz</c>: KVM_GET_TSC_KHZ gives it as an int.</summary>
    private UInt128 MaximumKHz => UInt128.Min(int.MaxValue, ((UInt128)MaximumMultiplier * KHz) >> FractionBits);

    private TscRatio Scaled(uint guestKHz) => new((ulong)Multiplier(guestKHz), FractionBits);

    private UInt128 Multiplier(uint guestKHz) => ((UInt128)guestKHz << FractionBits) / KHz;

    private ulong Adjusted(uint millionths) => (ulong)KHz * millionths / Million;

    private KvmException TooSlow(uint guestKHz) => new(
        KvmErrorId.FrequencyUnsupported,
        $"A guest TSC of {guestKHz} kHz is slower than the host's {KHz} kHz, and the CPU has no TSC scaling.",
        $"Use a host with TSC scaling (tsc_scale in /proc/cpuinfo), or one within {TolerancePpm} ppm of {guestKHz} kHz.");

    private KvmException OutOfRange(uint guestKHz) => new(
        KvmErrorId.FrequencyUnsupported,
        $"A guest TSC of {guestKHz} kHz is more than the hardware can scale the host's {KHz} kHz to.",
        "Choose a frequency nearer to the host's.");
}
