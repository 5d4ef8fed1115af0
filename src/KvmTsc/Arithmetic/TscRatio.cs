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

    /// <summary>Scales a host TSC as the hardware does, modulo 2^64.</summary>
    public ulong Apply(ulong hostTsc) => Multiplier == 0 ? hostTsc : TscArithmetic.Scale(hostTsc, Multiplier, FractionBits);
}
