using KvmTsc.Migration;
using KvmTsc.Tests.Simulation;

namespace KvmTsc.Tests.Migration;

/// <summary>What becomes of the time during which the guest stood still.</summary>
public sealed class DowntimeTests
{
    private static readonly TscRestoreOptions s_exclude = new(Force: true, Downtime: TscDowntime.Exclude);

    [Fact]
    public void Excluded_it_is_missing_in_both_clocks_alike() => Properties.Hold(MigrationScenario.Any, scenario =>
    {
        var migration = scenario.Start();
        var result = new TscRestore(migration.Destination, migration.State, s_exclude).Run(CancellationToken.None);

        // All that passed for the guest is the time that the restore itself took.
        var passed = (long)(result.NewClockNanoseconds - migration.State.ClockNanoseconds);
        Assert.InRange(passed, 0, 1_000_000_000);
        foreach (var vcpu in result.Vcpus)
        {
            var source = migration.State.Vcpus.Single(state => state.VcpuId == vcpu.VcpuId);
            var ticks = unchecked((long)(vcpu.GuestTsc - ClockLine.SourceGuestTsc(migration.State, source)));
            Assert.InRange((ticks * 1e6 / source.TscKHz) - passed, -result.ErrorBoundNanoseconds - 2, result.ErrorBoundNanoseconds + 2);
        }
    });

    [Fact]
    public void Excluded_the_residuals_lie_within_the_bound_and_are_measured_by_the_destinations_TSC() => Properties.Hold(MigrationScenario.Any, scenario =>
    {
        var migration = scenario.Start();
        var result = new TscRestore(migration.Destination, migration.State, s_exclude).Run(CancellationToken.None);
        Assert.Equal((TscDowntime.Exclude, ResidualMeasure.HostTsc), (result.Downtime, result.MeasuredBy));
        Assert.InRange(result.ClockResidualNanoseconds, -result.ErrorBoundNanoseconds - 1, result.ErrorBoundNanoseconds + 1);
        Assert.InRange(result.ResidualNanoseconds, -result.ErrorBoundNanoseconds - 2, result.ErrorBoundNanoseconds + 2);
    });

    [Theory]
    [InlineData(TscDowntime.Count)]
    [InlineData(TscDowntime.Exclude)]
    public void It_is_reported_either_way(TscDowntime downtime)
    {
        var migration = Start(seconds: 30);
        var result = new TscRestore(migration.Destination, migration.State, new TscRestoreOptions(Downtime: downtime)).Run(CancellationToken.None);
        Assert.InRange(result.DowntimeNanoseconds, 30_000_000_000, 30_100_000_000);
    }

    [Fact]
    public void A_preview_foretells_clocks_without_it()
    {
        var migration = Start(seconds: 30);
        var preview = new TscRestore(migration.Destination, migration.State, s_exclude).Preview(CancellationToken.None);
        Assert.Equal(migration.State.ClockNanoseconds, preview.NewClock);
    }

    [Theory]
    [InlineData(TscDowntime.Count)]
    [InlineData(TscDowntime.Exclude)]
    public void More_than_is_allowed_is_refused(TscDowntime downtime)
    {
        var migration = Start(seconds: 30);
        Refusal.Of(migration.Destination, KvmErrorId.DowntimeExceeded, () => Prepare(29.9));

        // Allowed when it is prepared, and no more when the VM is stopped.
        var restore = Prepare(31);
        migration.Time.Advance(TimeSpan.FromSeconds(2));
        Refusal.Of(migration.Destination, KvmErrorId.DowntimeExceeded, () => restore.Run(CancellationToken.None));
        Refusal.Of(migration.Destination, KvmErrorId.DowntimeExceeded, () => restore.Preview(CancellationToken.None));
        Prepare(33).Run(CancellationToken.None);

        TscRestore Prepare(double limit) =>
            new(migration.Destination, migration.State, new TscRestoreOptions(Downtime: downtime, MaximumDowntime: TimeSpan.FromSeconds(limit)));
    }

    private static Simulation.Migration Start(int seconds) => new MigrationScenario(
        HostSpec.Ordinary with { BootId = "a" }, HostSpec.Ordinary with { BootId = "b" }, HostSpec.Ordinary.TscKHz, 2, 1)
    {
        DowntimePicoseconds = seconds * 1_000_000_000_000L,
    }.Start();
}
