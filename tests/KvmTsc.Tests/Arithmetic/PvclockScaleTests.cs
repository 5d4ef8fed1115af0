using System.Numerics;
using FsCheck.Fluent;
using KvmTsc.Arithmetic;
using KvmTsc.Tests.Simulation;

namespace KvmTsc.Tests.Arithmetic;

public sealed class PvclockScaleTests
{
    /// <summary>Worked out by hand: the shift brings the frequency into (1 GHz, 2 GHz], the fraction is 2^32 * 10^9 / that.</summary>
    [Theory]
    [InlineData(1_000_000, 0x80000000, 1)]
    [InlineData(1_000_001, 0xFFFFEF39, 0)]
    [InlineData(2_000_000, 0x80000000, 0)]
    [InlineData(2_500_000, 0xCCCCCCCC, -1)]
    [InlineData(3_000_000, 0xAAAAAAAA, -1)]
    [InlineData(4_000_000, 0x80000000, -1)]
    [InlineData(5_000_000, 0xCCCCCCCC, -2)]
    [InlineData(250_000, 0x80000000, 3)]
    public void Multiplier_and_shift_are_the_kernels(uint kHz, uint multiplier, int shift) =>
        Assert.Equal(new PvclockScale(multiplier, shift), PvclockScale.ToNanoseconds(kHz));

    [Fact]
    public void The_multiplier_uses_all_of_its_32_bits_so_that_the_rate_is_good_to_half_a_ppb() => Properties.Hold(Numbers.KHz, kHz =>
    {
        var scale = PvclockScale.ToNanoseconds(kHz);
        Assert.InRange(scale.Multiplier, 1u << 31, uint.MaxValue);
        var rate = scale.Multiplier / Math.Pow(2, 32) * Math.Pow(2, scale.Shift);
        Assert.InRange((rate / (1e6 / kHz)) - 1, -1e-9, 1e-9);
    });

    [Fact]
    public void A_difference_is_scaled_as_the_guest_does() => Properties.Hold(
        from ticks in Numbers.Counter
        from kHz in Numbers.KHz
        select (ticks, kHz),
        value => Assert.Equal(SimulatedVM.PvclockNanoseconds(value.ticks, value.kHz), PvclockScale.ToNanoseconds(value.kHz).Apply(value.ticks)),
        times: 2000);

    [Fact]
    public void As_one_fraction_it_scales_alike_to_a_unit() => Properties.Hold(
        from ticks in Numbers.Between(0, 1L << 55)
        from kHz in Numbers.KHz
        select ((ulong)ticks, kHz),
        value =>
        {
            var scale = PvclockScale.ToNanoseconds(value.kHz);
            var (multiplier, fractionBits) = scale.ToFraction();
            Assert.InRange((ulong)(((UInt128)value.Item1 * multiplier) >> fractionBits) - scale.Apply(value.Item1), 0ul, 1ul);
        },
        times: 2000);

    [Fact]
    public void Any_frequency_has_a_scale() => Properties.Hold(
        Numbers.Counter.Select(value => (uint)value).Where(kHz => kHz != 0),
        kHz =>
        {
            var scale = PvclockScale.ToNanoseconds(kHz);
            var exact = (BigInteger)kHz * 1000;
            var nanoseconds = scale.Apply(exact > ulong.MaxValue ? ulong.MaxValue : (ulong)exact);
            Assert.InRange(nanoseconds, 999_999_990ul, 1_000_000_000ul);
        },
        times: 1000);

    [Fact]
    public void A_frequency_of_0_has_no_scale() => Assert.Throws<ArgumentOutOfRangeException>(() => PvclockScale.ToNanoseconds(0));
}
