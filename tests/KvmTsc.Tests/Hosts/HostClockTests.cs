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
        var (tsc, realtime, raw, suspended) = HostClock.ReadAll();
        var later = HostClock.ReadAll();
        Assert.True(later.HostTsc > tsc && later.Realtime > realtime && later.MonotonicRaw > raw);
        Assert.InRange(Math.Abs((double)later.Suspended - suspended), 0, 1e6);
    }
}
