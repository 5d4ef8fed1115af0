using FsCheck.Fluent;
using KvmTsc.Arithmetic;
using KvmTsc.Tests.Simulation;

namespace KvmTsc.Tests.Arithmetic;

public sealed class CommonTscFrequencyTests
{
    [Theory]
    [InlineData(2_100_000, 2_100_000, 32)] // the slowest host's
    [InlineData(2_099_474, 2_100_010, 48)] // below what either tolerates, where both scale: nearer than above, at 2,100,536
    [InlineData(2_100_000, 2_600_000, 48)] // neither tolerates the other's
    public void Hosts_that_scale_are_given_what_none_of_them_is_off(uint best, uint other, int bits) =>
        Assert.Equal(best, Best(new(2_100_000, bits, 250), new(other, bits, 250)));

    [Theory]
    [InlineData(2_100_005, 2_100_010)]
    [InlineData(2_100_006, 2_100_011)] // 5 kHz to the slower, 6 to the faster would be more of the frequency
    public void Hosts_without_scaling_are_given_the_middle(uint best, uint other) => Assert.Equal(best, Best(new(2_100_000, 0, 250), new(other, 0, 250)));

    [Fact]
    public void A_host_that_scales_adapts_to_one_that_does_not() =>
        Assert.Equal(2_100_000u, Best(new(2_100_000, 0, 250), new(2_600_000, 48, 250), new(1_900_000, 32, 250)));

    /// <summary>In the middle, 2,100,150, it would be off by no more than 71 ppm, but both would run at their own rates, 143 ppm apart.</summary>
    [Fact]
    public void Hosts_that_differ_less_are_better_than_a_frequency_that_is_less_off() =>
        Assert.Equal(2_099_773u, Best(new(2_100_000, 0, 250), new(2_100_300, 48, 250)));

    /// <summary>All there is was tried.</summary>
    [Fact]
    public void No_frequency_is_better() => Properties.Hold(
        from count in Gen.Choose(1, 5)
        from hosts in Gen.ArrayOf(
            from kHz in Numbers.Between(900, 1_100)
            from bits in Gen.Elements(0, 0, 32, 48)
            from tolerance in Gen.Elements<uint>(0, 30_000, 60_000)
            select new HostTscTraits((uint)kHz, bits, tolerance), count)
        select hosts,
        hosts =>
        {
            var all = Enumerable.Range(1, 3_000).Select(kHz => (uint)kHz).Where(kHz => hosts.All(host => host.Supports(kHz) && !host.NeedsCatchUp(kHz))).ToArray();
            var (lowest, highest) = (hosts.Max(host => host.LowestGuestKHz), hosts.Min(host => host.HighestGuestKHz));
            Assert.Equal(all.Length == 0, lowest > highest);
            if (all.Length == 0)
                return;
            Assert.Equal((all[0], all[^1]), (lowest, Math.Min(highest, 3_000)));
            var slowest = hosts.Min(host => host.KHz);
            var best = all.OrderBy(kHz => Spread(hosts, kHz)).ThenBy(kHz => Off(hosts, kHz)).ThenBy(kHz => Math.Abs((long)kHz - slowest)).ThenBy(kHz => kHz).First();
            Assert.Equal(best, CommonTscFrequency.Best(hosts, lowest, highest));
        },
        times: 1000);

    private static decimal Spread(HostTscTraits[] hosts, uint kHz) =>
        hosts.Max(host => (decimal)Rate(host, kHz)) / hosts.Min(host => Rate(host, kHz));

    private static uint Rate(HostTscTraits host, uint kHz) => host.Tolerates(kHz) ? host.KHz : kHz;

    private static decimal Off(HostTscTraits[] hosts, uint kHz) =>
        hosts.Max(host => Math.Abs((decimal)Rate(host, kHz) - kHz) / kHz);

    private static uint Best(params HostTscTraits[] hosts) =>
        CommonTscFrequency.Best(hosts, hosts.Max(host => host.LowestGuestKHz), hosts.Min(host => host.HighestGuestKHz));
}
