using KvmTsc.Hosts;
using KvmTsc.Tests.Simulation;

namespace KvmTsc.Tests.Hosts;

public sealed class KvmCommonTscFrequencyTests
{
    [Fact]
    public void Each_host_tells_what_it_makes_of_it()
    {
        var common = KvmCommonTscFrequency.Of([Host("plain", 2_100_000, TscScaling.None), Host("intel", 2_600_000, TscScaling.Intel), Host("near", 2_100_300, TscScaling.None)]);
        Assert.Equal((2_100_150u, 2_099_774u, 2_100_525u), (common.TscKHz, common.MinimumTscKHz, common.MaximumTscKHz));
        Assert.Equal(["plain", "intel", "near"], common.Hosts.Select(host => host.MachineName));
        Assert.Equal([0, ((UInt128)2_100_150 << 48) / 2_600_000, 0], common.Hosts.Select(host => (UInt128)host.ScalingRatio));
        Assert.Equal([0, 48, 0], common.Hosts.Select(host => host.ScalingFractionBits));
        Assert.Equal([-71.423, 0, 71.423], common.Hosts.Select(host => Math.Round(host.UnscaledPpm, 3)));
        Assert.Equal(300 / 2.1, common.DriftPpm, 6);
        Assert.Equal((1u, int.MaxValue - 1u), (common.Hosts[1].MinimumTscKHz, common.Hosts[1].MaximumTscKHz));
    }

    [Fact]
    public void One_host_gives_its_own() => Assert.Equal(2_100_000u, KvmCommonTscFrequency.Of([Host("plain", 2_100_000, TscScaling.None)]).TscKHz);

    [Fact]
    public void Hosts_that_have_none_are_named()
    {
        var refusal = Assert.Throws<KvmException>(() => KvmCommonTscFrequency.Of(
            [Host("slow", 2_100_000, TscScaling.None), Host("between", 2_100_600, TscScaling.None), Host("fast", 2_101_100, TscScaling.None)]));
        Assert.Equal(KvmErrorId.FrequencyUnsupported, refusal.ErrorId);
        Assert.Contains("fast gives none below 2100574 kHz, slow none above 2100525 kHz", refusal.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(0, 0, 250)]
    [InlineData(3_000_000_000, 0, 250)]
    [InlineData(2_100_000, 47, 250)]
    [InlineData(2_100_000, 0, 1_000_001)]
    public void A_host_that_cannot_be_is_refused(uint kHz, int bits, uint tolerance)
    {
        var refusal = Assert.Throws<KvmException>(() => KvmCommonTscFrequency.Of([SimulatedMachine.Describe("broken", "a", kHz, bits, tolerance)]));
        Assert.Equal(KvmErrorId.InvalidValue, refusal.ErrorId);
        Assert.Contains("broken", refusal.Message, StringComparison.Ordinal);
    }

    private static KvmHostInformation Host(string name, uint kHz, TscScaling scaling) =>
        new SimulatedMachine(new SimulatedHost(new HostSpec(kHz * 1000UL, kHz, 0, scaling) { Name = name }, new SimulatedTime()), 0).Information;
}
