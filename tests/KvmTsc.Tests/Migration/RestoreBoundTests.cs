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

    /// <summary>KVM_GET_CLOCK computes kvmclock for the host's frequency, a guest that is scaled for its own, which is rounded down to kHz.</summary>
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void What_a_scaled_guest_saw_lies_within_the_bound_of_kvmclock(bool isIntel)
    {
        var host = new HostSpec(2_596_102_000, 2_596_102, 1UL << 45, isIntel ? TscScaling.Intel : TscScaling.Amd);
        var migration = new MigrationScenario(host, host, 2_400_000, 2, 1) { RanPicoseconds = 30L * 86_400_000_000_000_000 }.Start();
        var result = migration.Restore(TscMethod.Best);
        var reading = migration.Destination.Log.Last(ioctl => ioctl.Clock is not null).Clock!;
        var lost = TscArithmetic.Distance(migration.Destination.VM.SeenAt(0, reading.HostTsc), migration.Source.VM.SeenAt(0, reading.HostTsc));
        Assert.InRange(lost, 500_000_000, 2_000_000_000); // the kernel's error, not ours: a second in 30 days
        Assert.InRange(lost, 0, result.ClockErrorBoundNanoseconds);
        Assert.InRange(result.ErrorBoundNanoseconds, 0, 100_000);
        Assert.Equal(0, result.ResidualTicks);
    }

    [Fact]
    public void On_one_TSC_the_bound_does_not_grow_with_the_downtime()
    {
        var (brief, day) = (s_onOne.Start().Restore(TscMethod.Best), (s_onOne with { DowntimePicoseconds = 86_400_000_000_000_000 }).Start().Restore(TscMethod.Best));
        Assert.InRange(day.ErrorBoundNanoseconds, 0, brief.ErrorBoundNanoseconds + 1);
        Assert.InRange(Math.Abs(day.ClockResidualNanoseconds), 0, day.ErrorBoundNanoseconds);
        Assert.Equal(day.ErrorBoundNanoseconds, day.ClockErrorBoundNanoseconds);
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
