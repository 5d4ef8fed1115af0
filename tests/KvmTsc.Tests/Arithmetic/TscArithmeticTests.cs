using System.Numerics;
using FsCheck.Fluent;
using KvmTsc.Arithmetic;
using KvmTsc.Tests.Simulation;

namespace KvmTsc.Tests.Arithmetic;

/// <summary>The arithmetic against integers that have no width.</summary>
public sealed class TscArithmeticTests
{
    private static readonly BigInteger s_wrap = BigInteger.One << 64;

    private static FsCheck.Gen<uint> AnyKHz { get; } = Gen.OneOf(Numbers.KHz, Numbers.Counter.Select(value => (uint)value).Where(kHz => kHz != 0));

    private static FsCheck.Gen<TscRatio> AnyRatio { get; } =
        from bits in Gen.Elements(0, 1, 32, 48, 63)
        from multiplier in Numbers.Counter
        select new TscRatio(multiplier, bits);

    [Fact]
    public void Ticks_in_a_time_are_exact_and_rounded_towards_zero() => Properties.Hold(
        from nanoseconds in Numbers.Signed
        from kHz in AnyKHz
        select (nanoseconds, kHz),
        value => Assert.Equal((BigInteger)value.nanoseconds * value.kHz / 1_000_000, TscArithmetic.TicksIn(value.nanoseconds, value.kHz)));

    [Fact]
    public void The_time_of_ticks_is_exact_and_rounded_towards_zero() => Properties.Hold(
        from ticks in Numbers.Signed
        from kHz in AnyKHz
        select (ticks, kHz),
        value => Assert.Equal((BigInteger)value.ticks * 1_000_000 / value.kHz, TscArithmetic.NanosecondsIn(value.ticks, value.kHz)));

    [Fact]
    public void A_distance_leads_from_one_counter_to_the_other_and_is_the_shorter_way() => Properties.Hold(
        from start in Numbers.Counter
        from end in Numbers.Counter
        select (start, end),
        value =>
        {
            BigInteger distance = TscArithmetic.Distance(value.start, value.end);
            Assert.Equal(value.end, Wrap(value.start + distance));
            Assert.InRange(distance, -(BigInteger.One << 63), (BigInteger.One << 63) - 1);
        });

    [Fact]
    public void A_ratio_scales_as_the_hardware_multiplies() => Properties.Hold(
        from tsc in Numbers.Counter
        from ratio in AnyRatio
        select (tsc, ratio),
        value => Assert.Equal(Wrap(Scale(value.tsc, value.ratio)), value.ratio.Apply(value.tsc)));

    [Fact]
    public void The_guest_TSC_is_the_scaled_host_TSC_plus_the_offset() => Properties.Hold(
        from tsc in Numbers.Counter
        from ratio in AnyRatio
        from offset in Numbers.Counter
        select (tsc, ratio, offset),
        value => Assert.Equal(Wrap(Scale(value.tsc, value.ratio) + value.offset), TscArithmetic.GuestTsc(value.tsc, value.ratio, value.offset)));

    [Fact]
    public void A_resolved_offset_is_what_the_formula_says() => Properties.Hold(
        from guestTsc in Numbers.Counter
        from sourceClock in Numbers.Counter
        from hostTsc in Numbers.Counter
        from destinationClock in Numbers.Counter
        from kHz in AnyKHz
        from ratio in AnyRatio
        select (guestTsc, sourceClock, hostTsc, destinationClock, kHz, ratio),
        value =>
        {
            var elapsed = Wrap((BigInteger)value.destinationClock - value.sourceClock);
            var signed = elapsed >> 63 == 1 ? (BigInteger)elapsed - s_wrap : elapsed;
            var expected = Wrap(value.guestTsc + (signed * value.kHz / 1_000_000) - Scale(value.hostTsc, value.ratio));
            Assert.Equal(
                expected,
                TscArithmetic.ResolveOffset(value.guestTsc, value.sourceClock, value.hostTsc, value.destinationClock, value.kHz, value.ratio));
        });

    /// <summary>Step 6 as Documentation/virt/kvm/devices/vcpu.rst has it, without scaling, with its own readings: 2 s at 2.5 GHz.</summary>
    [Fact]
    public void Without_scaling_a_resolved_offset_is_the_documented_one()
    {
        const ulong TscSource = 50_000_000_000, TscDestination = 7_000_000_000, OffsetSource = 1_000_000;
        const long GuestSource = 20_000_000_000, GuestDestination = 22_000_000_000;
        const ulong Documented = unchecked((ulong)((long)OffsetSource - ((GuestSource - GuestDestination) * 2_500_000 / 1_000_000) + (long)(TscSource - TscDestination)));
        Assert.Equal(48_001_000_000ul, Documented);
        Assert.Equal(
            Documented,
            TscArithmetic.ResolveOffset(TscSource + OffsetSource, (ulong)GuestSource, TscDestination, (ulong)GuestDestination, 2_500_000, TscRatio.None));
    }

    /// <summary>Of a host that has not run for a century: the first TSC at which the guest's is so much, or the first at which it is more.</summary>
    [Fact]
    public void The_host_TSC_is_the_first_at_which_the_guests_is_so_much() => Properties.Hold(
        from tsc in Numbers.Between(1, 1L << 58)
        from ratio in Gen.OneOf(Gen.Constant(TscRatio.None), Numbers.Between(1L << 26, 1L << 36).Select(multiplier => new TscRatio((ulong)multiplier, 32)))
        from offset in Numbers.Counter
        select (Tsc: (ulong)tsc, Ratio: ratio, Offset: offset),
        value =>
        {
            var guest = TscArithmetic.GuestTsc(value.Tsc, value.Ratio, value.Offset);
            var host = TscArithmetic.HostTsc(guest, value.Ratio, value.Offset);
            Assert.InRange(host, 0UL, value.Tsc);
            Assert.Equal(guest, TscArithmetic.GuestTsc(host, value.Ratio, value.Offset));
            Assert.True(host == 0 || TscArithmetic.GuestTsc(host - 1, value.Ratio, value.Offset) != guest);
        });

    [Theory]
    [InlineData(0ul, 48, false)]
    [InlineData(1ul << 48, 48, false)]
    [InlineData(1ul << 32, 48, true)]
    [InlineData(1ul << 32, 32, false)]
    [InlineData((1ul << 32) + 1, 32, true)]
    public void A_ratio_of_one_scales_nothing(ulong multiplier, int fractionBits, bool scales) =>
        Assert.Equal(scales, new TscRatio(multiplier, fractionBits).Scales);

    [Theory]
    [InlineData(0ul, 0, 3_000_000)]
    [InlineData(1ul << 47, 48, 1_500_000)]
    [InlineData(3ul << 32, 32, 9_000_000)]
    public void A_ratio_scales_frequencies_too(ulong multiplier, int fractionBits, double kHz) =>
        Assert.Equal(kHz, new TscRatio(multiplier, fractionBits).ScaleFrequency(3_000_000));

    private static BigInteger Scale(ulong tsc, TscRatio ratio) => ratio.Multiplier == 0 ? tsc : ((BigInteger)tsc * ratio.Multiplier) >> ratio.FractionBits;

    private static ulong Wrap(BigInteger value) => (ulong)(((value % s_wrap) + s_wrap) % s_wrap);
}
