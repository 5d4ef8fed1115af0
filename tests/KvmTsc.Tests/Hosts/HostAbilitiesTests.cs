using KvmTsc.Hosts;

namespace KvmTsc.Tests.Hosts;

public sealed class HostAbilitiesTests
{
    [Theory]
    [InlineData("tsc", true)]
    [InlineData("hyperv_clocksource_tsc_page", true)]
    [InlineData(null, true)]
    [InlineData("hpet", false)]
    [InlineData("kvm-clock", false)]
    public void A_master_clock_needs_a_clocksource_that_is_a_TSC(string? clockSource, bool possible) =>
        Assert.Equal(possible, HostAbilities.AllowMasterClock(clockSource));
}
