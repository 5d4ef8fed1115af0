using KvmTsc.Arithmetic;
using KvmTsc.Clocks;
using KvmTsc.Migration;
using KvmTsc.Tests.Simulation;

namespace KvmTsc.Tests.Migration;

/// <summary>What is said of a restore's error, where things go less well than they may.</summary>
public sealed class RestoreBoundTests
{
    private static readonly MigrationScenario s_between = new(
        HostSpec.Ordinary with { Name = "source" }, HostSpec.Ordinary with { Name = "destination", BootId = "another" }, HostSpec.Ordinary.TscKHz, 2, 1);

    private static readonly MigrationScenario s_onOne = new(HostSpec.Ordinary, HostSpec.Ordinary, HostSpec.Ordinary.TscKHz, 2, 1);

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_clock_that_nobody_keeps_tells_no_downtime(bool isSource)
    {
        var scenario = isSource
            ? s_between with { Source = s_between.Source with { ClockSynchronized = false } }
            : s_between with { Destination = s_between.Destination with { ClockSynchronized = false } };
        var migration = scenario.Start();
        Refusal.AssertExplains(Assert.Throws<KvmException>(() => migration.Restore(TscMethod.Best)), KvmErrorId.ClockUnsynchronized);
        Assert.Throws<KvmException>(() => new TscRestore(migration.Destination, migration.State, new TscRestoreOptions()).Preview(CancellationToken.None));
        Assert.Equal(double.PositiveInfinity, Forced(migration).ErrorBoundNanoseconds);
    }

    [Fact]
    public void A_leap_second_is_refused_and_in_the_bound()
    {
        var migration = (s_between with { Destination = s_between.Destination with { TaiOffsetSeconds = 38 } }).Start();
        Refusal.AssertExplains(Assert.Throws<KvmException>(() => migration.Restore(TscMethod.Best)), KvmErrorId.TaiOffsetChanged);
        Assert.InRange(Forced(migration).ErrorBoundNanoseconds, 1e9, 1.1e9);
    }

    [Fact]
    public void Downtime_that_does_not_count_asks_nothing_of_the_clocks()
    {
        var migration = (s_between with { Source = s_between.Source with { ClockSynchronized = false } }).Start();
        var result = new TscRestore(migration.Destination, migration.State, new TscRestoreOptions(Downtime: TscDowntime.Exclude)).Run(CancellationToken.None);
        Assert.InRange(result.ErrorBoundNanoseconds, 0, 1e6);
    }

    /// <summary>A correction has in it what was stolen from the setting before it, which is then wrong by as much.</summary>
    [Theory]
    [InlineData(0, false)]
    [InlineData(1, false)]
    [InlineData(2, false)]
    [InlineData(0, true)]
    [InlineData(1, true)]
    [InlineData(2, true)]
    public void Time_that_is_stolen_from_a_setting_is_made_up_for(int setting, bool betweenHosts)
    {
        var migration = (betweenHosts ? s_between : s_onOne).Start();
        var settings = 0;
        migration.Destination.Fault = ioctl =>
        {
            if (ioctl.Request == KvmIoctl.SetClock && settings++ == setting)
                migration.Time.Advance(TimeSpan.FromMilliseconds(5));
            return 0;
        };
        var result = migration.Restore(TscMethod.Best);
        Assert.InRange(Math.Abs(result.ClockResidualNanoseconds), 0, Math.Min(result.ErrorBoundNanoseconds, 10_000));
        Assert.InRange(Math.Abs(result.ResidualNanoseconds), 0, Math.Max(1, Math.Min(result.ErrorBoundNanoseconds, 10_000)));
    }

    [Fact]
    public void Time_that_is_stolen_from_every_setting_is_in_the_bound()
    {
        var migration = s_onOne.Start();
        var random = new Random(4711);
        migration.Destination.Fault = ioctl =>
        {
            if (ioctl.Request == KvmIoctl.SetClock)
                migration.Time.Advance(TimeSpan.FromMilliseconds(random.Next(1, 9)));
            return 0;
        };
        var result = migration.Restore(TscMethod.Best);
        Assert.InRange(Math.Abs(result.ClockResidualNanoseconds), 0, result.ErrorBoundNanoseconds);
    }

    [Fact]
    public void A_guests_TSC_is_not_taken_back_either_where_the_master_clock_is_off()
    {
        var migration = s_onOne.Start();
        var machine = migration.Destination;
        machine.RunGuest();
        foreach (var (id, seconds) in new[] { (0, 10), (1, 20) })
            Semantics.Raw.SetOffset(machine, id, unchecked((ulong)migration.State.Vcpus[0].OffsetTicks + ((ulong)seconds * HostSpec.Ordinary.TscHz)));
        machine.RunGuest();
        GuestClock.Set(machine, 1, null, force: true, CancellationToken.None);
        var restore = new TscRestore(machine, migration.State, new TscRestoreOptions());
        Refusal.AssertExplains(Assert.Throws<KvmException>(() => restore.Run(CancellationToken.None)), KvmErrorId.GuestTscBackwards);
    }

    private static KvmTscMigrationResult Forced(Simulation.Migration migration) =>
        new TscRestore(migration.Destination, migration.State, new TscRestoreOptions(Force: true)).Run(CancellationToken.None);
}
