using FsCheck;
using FsCheck.Fluent;

namespace KvmTsc.Tests.Simulation;

/// <summary>Generators of numbers that clock arithmetic gets wrong.</summary>
internal static class Numbers
{
    public static Gen<ulong> Any64 { get; } =
        from high in Gen.Choose(int.MinValue, int.MaxValue)
        from low in Gen.Choose(int.MinValue, int.MaxValue)
        select ((ulong)(uint)high << 32) | (uint)low;

    /// <summary>All of 64 bits, but often near to where a counter wraps or a sign changes.</summary>
    public static Gen<ulong> Counter { get; } = Gen.OneOf(
        Any64,
        Near(0),
        Near(1UL << 63),
        Near(1UL << 32),
        Gen.Elements<ulong>(0, 1, ulong.MaxValue, 1UL << 63, (1UL << 63) - 1));

    public static Gen<long> Signed { get; } = Counter.Select(value => unchecked((long)value));

    /// <summary>Frequencies of TSCs, and some at which pvclock's shift changes.</summary>
    public static Gen<uint> KHz { get; } = Gen.OneOf(
        Between(400_000, 5_500_000).Select(kHz => (uint)kHz),
        Gen.Elements<uint>(1_000_000, 999_999, 1_000_001, 2_000_000, 2_000_001, 4_000_000, 4_294_967, 4_294_968, 5_000_000));

    public static Gen<long> Between(long low, long high) => Any64.Select(value => low + (long)(value % (ulong)(high - low + 1)));

    private static Gen<ulong> Near(ulong value) => Between(-5_000_000_000, 5_000_000_000).Select(distance => unchecked(value + (ulong)distance));
}
