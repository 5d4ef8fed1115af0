using System.Numerics;
using FsCheck.Fluent;
using KvmTsc.Arithmetic;
using KvmTsc.Tests.Simulation;

namespace KvmTsc.Tests.Arithmetic;

/// <summary>The kernel's rules for guests of another frequency, <c>kvm_set_tsc_khz</c> and <c>set_tsc_khz</c>.</summary>
public sealed class HostTscTraitsTests
{
    private static readonly HostTscTraits s_plain = new(3_000_000, 0, 250);
    private static readonly HostTscTraits s_intel = new(3_000_000, 48, 250);
    private static readonly HostTscTraits s_amd = new(3_000_000, 32, 250);

    [Theory]
    [InlineData(2_000_000, 187_649_984_473_770ul)]
    [InlineData(1_000_000, 93_824_992_236_885ul)]
    [InlineData(4_500_000, 422_212_465_065_984ul)]
    [InlineData(3_000_000, 1ul << 48)]
    [InlineData(3_000_750, 1ul << 48)]
    [InlineData(2_999_250, 1ul << 48)]
    [InlineData(3_000_751, 281_545_439_279_825ul)]
    public void Intels_ratio_has_48_fraction_bits(uint kHz, ulong multiplier) => Assert.Equal(new TscRatio(multiplier, 48), s_intel.RatioFor(kHz));

    [Theory]
    [InlineData(2_000_000, 2_863_311_530ul)]
    [InlineData(1_000_000, 1_431_655_765ul)]
    [InlineData(4_500_000, 6_442_450_944ul)]
    [InlineData(3_000_000, 1ul << 32)]
    public void Amds_ratio_has_32_fraction_bits(uint kHz, ulong multiplier) => Assert.Equal(new TscRatio(multiplier, 32), s_amd.RatioFor(kHz));

    [Fact]
    public void Without_scaling_there_is_no_ratio()
    {
        Assert.Equal(TscRatio.None, s_plain.RatioFor(3_000_000));
        Assert.Equal(TscRatio.None, s_plain.RatioFor(3_000_100));
        Assert.Equal(TscRatio.None, s_plain.RatioFor(3_500_000));
    }

    [Fact]
    public void A_ratio_that_debugfs_shows_is_taken_only_if_it_can_be_the_guests_own()
    {
        const uint Guest = 2_000_000;
        var (own, ofItsGuest) = (s_intel.RatioFor(Guest), new TscRatio(s_intel.RatioFor(Guest).Multiplier / 2, 48));
        Assert.Equal(own, s_intel.RatioAt(Guest, own));
        Assert.Equal(own, s_intel.RatioAt(Guest, ofItsGuest));
        Assert.Equal(own, s_intel.RatioAt(Guest, shown: null));
        Assert.Equal(s_intel.Unscaled, s_intel.RatioAt(Guest, s_intel.Unscaled)); // the tolerance was larger then
        Assert.Equal(TscRatio.None, s_plain.RatioAt(Guest, shown: null));
    }

    /// <summary>250 ppm of 3 GHz are 750 kHz to either side, both ends included.</summary>
    [Theory]
    [InlineData(2_999_249, false)]
    [InlineData(2_999_250, true)]
    [InlineData(3_000_750, true)]
    [InlineData(3_000_751, false)]
    public void The_tolerance_includes_its_ends(uint kHz, bool tolerated) => Assert.Equal(tolerated, s_plain.Tolerates(kHz));

    [Fact]
    public void The_ends_of_the_tolerance_are_rounded_down_as_the_kernel_does()
    {
        var host = new HostTscTraits(2_999_999, 0, 250);
        Assert.True(host.Tolerates(2_999_249));
        Assert.False(host.Tolerates(2_999_248));
        Assert.True(host.Tolerates(3_000_748));
        Assert.False(host.Tolerates(3_000_749));
    }

    [Fact]
    public void Another_tolerance_is_respected()
    {
        Assert.True((s_plain with { TolerancePpm = 1000 }).Tolerates(3_003_000));
        Assert.False((s_plain with { TolerancePpm = 0 }).Tolerates(3_000_001));
        Assert.True((s_plain with { TolerancePpm = 0 }).Tolerates(3_000_000));
    }

    [Theory]
    [InlineData(2_999_249, false)]
    [InlineData(2_999_250, false)]
    [InlineData(3_000_750, false)]
    [InlineData(3_000_751, true)]
    public void Only_a_faster_guest_without_scaling_is_chased(uint kHz, bool chased)
    {
        Assert.Equal(chased, s_plain.NeedsCatchUp(kHz));
        Assert.False(s_intel.NeedsCatchUp(kHz));
    }

    [Fact]
    public void A_slower_guest_without_scaling_is_refused()
    {
        Assert.False(s_plain.Supports(2_999_249));
        var refusal = Assert.Throws<KvmException>(() => s_plain.RatioFor(2_999_249));
        Assert.Equal(KvmErrorId.FrequencyUnsupported, refusal.ErrorId);
        Assert.Contains("slower", refusal.Message, StringComparison.Ordinal);
    }

    /// <summary>What is supported and with which ratio, as the simulated kernel, which was written from the kernel's source, has it.</summary>
    [Fact]
    public void Supported_is_what_the_kernel_takes_and_ratios_are_what_it_then_uses() => Properties.Hold(
        from hostKHz in Numbers.KHz
        from tolerance in Gen.Elements<uint>(0, 250, 1000)
        from scaling in Gen.Elements(TscScaling.None, TscScaling.Intel, TscScaling.Amd)
        from kHz in Gen.OneOf(
            Numbers.KHz,
            Numbers.Between(-2, 2).Select(x => (uint)(hostKHz + (hostKHz * tolerance / 1_000_000) + x)),
            Numbers.Between(-2, 2).Select(x => (uint)(hostKHz - (hostKHz * tolerance / 1_000_000) + x)),
            Numbers.Between(-2, 2).Select(x => (uint)((hostKHz * 256L) + x)),
            Numbers.Between(-2, 2).Select(x => (uint)(int.MaxValue + x)),
            Numbers.Between(1, 1000).Select(x => (uint)x))
        select (hostKHz, tolerance, scaling, kHz),
        value =>
        {
            var host = new SimulatedHost(new HostSpec(value.hostKHz * 1000ul, value.hostKHz, 0, value.scaling) { TolerancePpm = value.tolerance }, new SimulatedTime());
            var vm = new SimulatedVM(host, [0]);
            var traits = new HostTscTraits(value.hostKHz, host.FractionBits, value.tolerance);
            var taken = vm.Issue(0, KvmIoctl.SetTscKHz, (nint)value.kHz) == 0 && value.kHz <= int.MaxValue;
            Assert.Equal(taken, traits.Supports(value.kHz));
            if (taken)
                Assert.Equal(vm.Vcpus[0].Ratio, traits.RatioFor(value.kHz).Multiplier);
            else
                Assert.Equal(KvmErrorId.FrequencyUnsupported, Assert.Throws<KvmException>(() => traits.RatioFor(value.kHz)).ErrorId);
        },
        times: 3000);

    [Fact]
    public void What_a_host_gives_a_guest_is_a_range_and_its_ends_are_known() => Properties.Hold(
        from kHz in Numbers.KHz
        from tolerance in Gen.Elements<uint>(0, 250, 1000, 1_000_000)
        from bits in Gen.Elements(0, 32, 48)
        select new HostTscTraits(kHz, bits, tolerance),
        host =>
        {
            bool Gives(uint kHz) => kHz > 0 && host.Supports(kHz) && !host.NeedsCatchUp(kHz);
            Assert.True(Gives(host.LowestGuestKHz) && Gives(host.HighestGuestKHz));
            Assert.False(Gives(host.LowestGuestKHz - 1) || Gives(host.HighestGuestKHz + 1));
        });

    [Fact]
    public void A_ratio_is_the_largest_that_does_not_run_too_fast() => Properties.Hold(
        from hostKHz in Numbers.KHz
        from kHz in Numbers.KHz
        from bits in Gen.Elements(32, 48)
        select new { Host = new HostTscTraits(hostKHz, bits, 0), KHz = kHz },
        value =>
        {
            var ratio = value.Host.RatioFor(value.KHz);
            var wanted = (BigInteger)value.KHz << value.Host.FractionBits;
            Assert.True((BigInteger)ratio.Multiplier * value.Host.KHz <= wanted);
            Assert.True(((BigInteger)ratio.Multiplier + 1) * value.Host.KHz > wanted);
        });
}
