using KvmTsc.Hosts;
using KvmTsc.Interop;

namespace KvmTsc.Tests.Hosts;

public sealed class HostClockTests
{
    private const int Nano = Timex.IsInNanoseconds;

    [Theory]
    [InlineData(Nano, 1500, 20, 0, 1500)] // chrony
    [InlineData(Nano, 1500, 2000, 0, 2000)] // an estimate above the maximum
    [InlineData(Nano, 1500, 0, 350_000_000, 351_500)] // systemd-timesyncd, with 350 ms to make up for
    [InlineData(Nano, 1500, 0, -350_000_001, 351_501)]
    [InlineData(0, 1500, 0, 350_000, 351_500)] // the same in microseconds
    [InlineData(Nano, 0, 0, 350_000_000, 850_000)] // just set: nobody knows
    [InlineData(Nano, 0, 700_000, 0, 700_000)]
    [InlineData(Timex.Unsynchronized, 16_000_000, 16_000_000, 0, 16_000_000)]
    public void The_maximum_error_has_all_that_is_known(int status, long maximum, long estimated, long offset, long expected) =>
        Assert.Equal(expected, HostClock.MaximumError(new Timex { Status = status, MaxError = maximum, EstimatedError = estimated, Offset = offset }));

    [Fact]
    public void All_clocks_of_this_host_go_on()
    {
        var (now, raw, suspended) = HostClock.ReadAll();
        var later = HostClock.ReadAll();
        Assert.True(later.Now.HostTsc > now.HostTsc && later.Now.Realtime > now.Realtime && later.MonotonicRaw > raw);
        Assert.InRange(Math.Abs((double)later.Suspended - suspended), 0, 1e6);
    }

    /// <summary>A restore took a host's TSC for another one, since its clocks were read a millisecond apart.</summary>
    [Theory]
    [InlineData(new ulong[] { 3_000_000, 500, 3_000_000 }, 2)] // interrupted at first
    [InlineData(new ulong[] { 9000, 400 }, 1)] // good enough at once
    [InlineData(new ulong[] { 50_000, 40_000, 30_000, 60_000 }, 3)] // never good enough
    public void Of_several_readings_the_one_counts_that_took_least(ulong[] ticks, int expected)
    {
        var (tsc, readings) = (100UL, 0);
        var taken = HostClock.Tightest(() => tsc, before =>
        {
            Assert.Equal(tsc, before);
            tsc += ticks[readings % ticks.Length];
            return ++readings;
        });
        Assert.Equal(expected, taken);
    }
}
