using FsCheck;
using FsCheck.Fluent;
using KvmTsc.Clocks;
using KvmTsc.Interop;
using KvmTsc.Migration;
using KvmTsc.Migration.Preflight;
using KvmTsc.Processes;
using KvmTsc.Tests.Semantics;
using KvmTsc.Tests.Simulation;

namespace KvmTsc.Tests.Migration;

/// <summary>What is found before a migration, and that it is what the migration itself would say.</summary>
public sealed class PreflightTests
{
    private static readonly HostSpec s_source = HostSpec.Ordinary with { Name = "source", BootId = "a", TscStart = 1UL << 45 };
    private static readonly HostSpec s_destination = HostSpec.Ordinary with { Name = "destination", BootId = "b" };

    private static readonly TscPreflightOptions s_byForce = new() { Restore = new(Force: true) };

    private readonly SimulatedTime _time = new();

    /// <summary>Migrations of any kind, also to hosts that cannot have the guest's frequency.</summary>
    private static Gen<MigrationScenario> AnyAtAll { get; } =
        from scenario in MigrationScenario.Any
        from scales in Gen.Elements(true, true, false)
        select scales ? scenario : scenario with { Destination = scenario.Destination with { Scaling = TscScaling.None } };

    /// <summary>What can be asked of a restore. No downtime is near a limit, so that it does not matter that preflight and restore ask one after the other.</summary>
    private static Gen<TscRestoreOptions> AnyOptions { get; } =
        from downtime in Gen.Elements(TscDowntime.Count, TscDowntime.Exclude)
        from maximum in Gen.Elements<TimeSpan?>(null, TimeSpan.MinValue, TimeSpan.MaxValue)
        select new TscRestoreOptions(Downtime: downtime, MaximumDowntime: maximum);

    [Fact]
    public void A_migration_passes_if_and_only_if_it_is_not_refused() => Properties.Hold(AnyAtAll.Zip(AnyOptions), given =>
    {
        var (scenario, options) = given;
        var migration = scenario.Start();
        var (picture, clock, stops, writes) = (migration.Destination.Picture(), migration.Destination.VM.ClockBase, migration.Destination.Stops, migration.Destination.Writes.Count());
        var preflight = TscPreflight.Run(migration.State, migration.Destination, new TscPreflightOptions { Restore = options }, CancellationToken.None);
        Assert.Equal(picture, migration.Destination.Picture());
        Assert.Equal((clock, stops + 1, writes), (migration.Destination.VM.ClockBase, migration.Destination.Stops, migration.Destination.Writes.Count()));

        var restore = () => new TscRestore(migration.Destination, migration.State, options).Run(CancellationToken.None);
        if (!preflight.Result.Passed)
        {
            var first = Assert.Throws<KvmException>(preflight.Require);
            KvmTscMigrationResult? restored = null;
            var second = Record.Exception(() => restored = restore());
            if (restored is null)
                Assert.Equal(first.ErrorId, Assert.IsType<KvmException>(second).ErrorId);
            else
                AssertBackBecameForth(first, restored);
            return;
        }

        Assert.Same(migration.State, preflight.Require());
        KvmTscMigrationResult? result = null;
        if (Record.Exception(() => result = restore()) is { } refusal)
        {
            AssertGoneBy(refusal, migration, options);
            return;
        }

        Assert.Equal(result!.MeasuredBy, preflight.Result.MeasuredBy);

        // The restore comes some ioctls later, and its bound has the time that setting kvmclock took.
        Assert.InRange(result.ErrorBoundNanoseconds - preflight.Result.ErrorBoundNanoseconds!.Value, 0, 400 * scenario.Destination.IoctlPicoseconds / 1000);
    });

    /// <summary>Where the downtime does not count, what the guest is given stands still, and what it has goes by it between the two: both say so now.</summary>
    private static void AssertGoneBy(Exception refusal, Simulation.Migration migration, TscRestoreOptions options)
    {
        Assert.Equal(TscDowntime.Exclude, options.Downtime);
        var again = TscPreflight.Run(migration.State, migration.Destination, new TscPreflightOptions { Restore = options }, CancellationToken.None);
        Assert.Equal(Assert.Throws<KvmException>(again.Require).ErrorId, Assert.IsType<KvmException>(refusal).ErrorId);
        Assert.Contains(((KvmException)refusal).ErrorId, new[] { KvmErrorId.GuestTscBackwards, KvmErrorId.ClockBackwards });
    }

    /// <summary>Half of all ticks away, as far back as forth, the time between the two decides.</summary>
    private static void AssertBackBecameForth(KvmException refused, KvmTscMigrationResult restored)
    {
        const long TicksBetween = 1L << 32;
        Assert.Equal(KvmErrorId.GuestTscBackwards, refused.ErrorId);
        Assert.Contains(restored.Vcpus, vcpu => unchecked(vcpu.NewOffsetTicks - vcpu.OldOffsetTicks) > long.MaxValue - TicksBetween);
    }

    [Fact]
    public void Between_good_hosts_nothing_is_found_and_each_side_is_stopped_once()
    {
        var (source, destination) = (Ran(s_source, 0, 1), Machine(s_destination, 0, 1));
        var result = Run(source, destination);
        Assert.True(result.Passed);
        Assert.Empty(result.Findings);
        Assert.Equal((1, 1), (source.Stops, destination.Stops));
        Assert.Empty(source.Writes.Concat(destination.Writes));
        Assert.Equal((source.Identity.Name, "source", destination.Identity.Name, "destination"), (result.SourceVMName, result.SourceMachineName, result.VMName, result.MachineName));
        Assert.Equal((ResidualMeasure.Realtime, 0.0, 0.0), (result.MeasuredBy, result.DriftPpm, result.DriftSecondsPerDay));
        Assert.Equal((12.5, 12.5), (result.SourceStoppedMicroseconds, result.StoppedMicroseconds));
    }

    [Fact]
    public void The_bound_grows_with_the_downtime()
    {
        var machine = Ran(s_source, 0);
        var destination = Machine(s_destination, 0);
        var bounds = new[] { 0, 10.0 }.Select(seconds => Run(machine, destination, new TscPreflightOptions { DowntimeSeconds = seconds })).ToArray();
        Assert.InRange(bounds[1].DowntimeNanoseconds!.Value - bounds[0].DowntimeNanoseconds!.Value, 9_999_000_000, 10_001_000_000);
        Assert.True(bounds[1].ErrorBoundNanoseconds > bounds[0].ErrorBoundNanoseconds + 10_000);
    }

    [Fact]
    public void Excluded_the_downtime_is_told_and_neither_it_nor_CLOCK_REALTIME_makes_for_a_bound()
    {
        var source = Ran(s_source with { RealtimeErrorNanoseconds = 70_000_000 }, 0);
        var destination = Machine(s_destination with { RealtimeErrorNanoseconds = 70_000_000 }, 0);
        var result = Run(source, destination, new TscPreflightOptions { Restore = new(Downtime: TscDowntime.Exclude), DowntimeSeconds = 10 });
        Assert.Equal((ResidualMeasure.HostTsc, 0.0), (result.MeasuredBy, result.ErrorBoundNanoseconds));
        Assert.InRange(result.DowntimeNanoseconds!.Value, 10_000_000_000, 10_001_000_000);
        Assert.Empty(result.Findings);
    }

    [Theory]
    [InlineData(29.9, 0, false)]
    [InlineData(31, 0, true)]
    [InlineData(31, 10, false)]
    public void A_state_that_is_older_than_is_allowed_or_will_be_is_an_error(double maximum, double secondsToCome, bool passes)
    {
        var state = KvmTscState.Save(Ran(s_source, 0), force: false, CancellationToken.None);
        _time.Advance(30_000_000_000_000);
        var options = new TscPreflightOptions { Restore = new(Force: true, MaximumDowntime: TimeSpan.FromSeconds(maximum)), DowntimeSeconds = secondsToCome };
        var preflight = TscPreflight.Run(state, Machine(s_destination, 0), options, CancellationToken.None);
        Assert.Equal(passes ? [] : [(FindingSeverity.Error, MigrationSide.Both, "DowntimeExceeded")], Brief(preflight.Result));
        Assert.Equal(passes, preflight.Result.Passed);
    }

    [Fact]
    public void A_source_that_never_ran_or_diverged_is_an_error_and_the_destination_is_looked_at_all_the_same()
    {
        var destination = Machine(s_destination with { OffsetErrno = 22 }, 0, 1);
        var result = Run(Machine(s_source, 0, 1), destination);
        Assert.Equal(
            [(FindingSeverity.Error, MigrationSide.Source, "ClockWithoutTriple"), (FindingSeverity.Error, MigrationSide.Destination, "TscOffsetUnsupported")],
            Brief(result));
        Assert.Null(result.ErrorBoundNanoseconds);

        var diverged = Ran(s_source, 0, 1);
        Raw.SetOffset(diverged, 1, 5);
        Assert.Equal([(FindingSeverity.Error, MigrationSide.Both, "UnequalOffsets")], Brief(Run(diverged, Machine(s_destination, 0, 1))));
        diverged.RunGuest();
        Assert.Equal([(FindingSeverity.Error, MigrationSide.Source, "UnequalOffsets")], Brief(Run(diverged, Machine(s_destination, 0, 1))));
    }

    [Fact]
    public void All_that_is_wrong_is_found_at_once()
    {
        var source = Ran(s_source with { Scaling = TscScaling.Intel, ClockSynchronized = false }, 0, 1);
        GuestTsc.SetFrequencies(source, source.VcpuIds.ToDictionary(id => id, _ => 900_000u), force: false, CancellationToken.None);
        var destination = Machine(s_destination with { ClockSynchronized = false, TaiOffsetSeconds = 38, RealtimeErrorNanoseconds = -60_000_000_000 }, 0);
        destination.VM.ClocksourceIsTsc = false;
        var result = Run(source, destination);
        Assert.False(result.Passed);
        Assert.All(result.Findings, finding => Assert.Equal(FindingSeverity.Error, finding.Severity));
        Assert.Equal(
            ["ClockWithoutTriple", "VcpuMismatch", "FrequencyUnsupported", "RealtimeInFuture", "TaiOffsetChanged", "ClockUnsynchronized", "ClockUnsynchronized"],
            result.Findings.Select(finding => finding.Check));
        Assert.All(result.Findings, finding => Assert.True(finding.Evidence.EndsWith('.') && finding.Action.EndsWith('.')));
        Assert.Null(result.DriftPpm);
    }

    [Theory]
    [InlineData(true, false, 37, "ClockUnsynchronized", MigrationSide.Destination)]
    [InlineData(false, true, 37, "ClockUnsynchronized", MigrationSide.Source)]
    [InlineData(true, true, 36, "TaiOffsetChanged", MigrationSide.Both)]
    public void What_is_about_clocks_is_an_error_and_by_force_a_warning(bool source, bool destination, int tai, string check, object side)
    {
        var from = Ran(s_source with { ClockSynchronized = source }, 0);
        var to = Machine(s_destination with { ClockSynchronized = destination, TaiOffsetSeconds = tai }, 0);
        Assert.Equal([(FindingSeverity.Error, (MigrationSide)side, check)], Brief(Run(from, to)));
        var forced = Run(from, to, s_byForce);
        Assert.Equal([(FindingSeverity.Warning, (MigrationSide)side, check)], Brief(forced));
        Assert.True(forced.Passed);
    }

    [Fact]
    public void Clocks_that_may_be_too_far_off_together_are_an_error()
    {
        var source = Ran(s_source with { RealtimeErrorNanoseconds = 70_000_000 }, 0);
        var destination = Machine(s_destination with { RealtimeErrorNanoseconds = 70_000_000 }, 0);
        var finding = Assert.Single(Run(source, destination).Findings);
        Assert.Equal((FindingSeverity.Error, "ClockUncertain"), (finding.Severity, finding.Check));
        Assert.Contains("70000 us", finding.Evidence, StringComparison.Ordinal);
        Assert.Empty(Run(source, destination, new TscPreflightOptions { MaximumErrorMicroseconds = 140_000 }).Findings);
    }

    [Theory]
    [InlineData(2_999_999, 1_000_000, false)]
    [InlineData(3_000_001, 1_000_000, true)]
    [InlineData(-3_000_001, 1_000_000, true)]
    [InlineData(5_000_000_000, 300_000_000, true)]
    public void Clocks_that_are_farther_apart_than_they_claim_are_an_error_and_by_force_a_warning(double ahead, double uncertainty, bool isFound)
    {
        var claimsOneMillisecond = s_destination with { RealtimeErrorNanoseconds = 1_000_000 };
        var (from, to) = (Ran(s_source with { RealtimeErrorNanoseconds = 1_000_000 }, 0), Machine(claimsOneMillisecond, 0));
        var options = new TscPreflightOptions { Clocks = new KvmClockComparison(ahead, uncertainty) };
        (FindingSeverity, MigrationSide, string)[] Expected(FindingSeverity severity) => isFound ? [(severity, MigrationSide.Both, "ClocksDisagree")] : [];
        Assert.Equal(Expected(FindingSeverity.Error), Brief(Run(from, to, options)));
        Assert.Equal(Expected(FindingSeverity.Warning), Brief(Run(from, to, options with { Restore = new(Force: true) })));
        Assert.Empty(Run(from, to, options with { Restore = new(Downtime: TscDowntime.Exclude) }).Findings);
    }

    [Fact]
    public void On_one_host_the_clock_need_not_be_synchronised()
    {
        var host = new SimulatedHost(s_source with { ClockSynchronized = false, TaiOffsetSeconds = 0 }, _time);
        var source = new SimulatedMachine(host, 0);
        source.RunGuest();
        var result = Run(source, new SimulatedMachine(host, 0));
        Assert.Equal([(FindingSeverity.Information, MigrationSide.Both, "ClockUnsynchronized")], Brief(result));
        Assert.Equal((true, ResidualMeasure.HostTsc), (result.Passed, result.MeasuredBy));
    }

    [Fact]
    public void A_kernel_that_was_not_told_of_TAI_is_mentioned()
    {
        var result = Run(Ran(s_source with { TaiOffsetSeconds = 0 }, 0), Machine(s_destination, 0));
        Assert.Equal([(FindingSeverity.Information, MigrationSide.Source, "TaiOffsetUnknown")], Brief(result));
    }

    [Theory]
    [InlineData(1_000_001, FindingSeverity.Information, 1.0, "1 ppm faster than it was on the source, 0.086 s a day")]
    [InlineData(999_999, FindingSeverity.Information, -1.0, "1 ppm slower than it was on the source, 0.086 s a day")]
    [InlineData(1_000_002, FindingSeverity.Warning, 2.0, "2 ppm faster than it was on the source, 0.173 s a day")]
    [InlineData(1_000_100, FindingSeverity.Warning, 100.0, "100 ppm faster than it was on the source, 8.64 s a day")]
    [InlineData(999_900, FindingSeverity.Warning, -100.0, "100 ppm slower than it was on the source, 8.64 s a day")]
    public void A_frequency_within_the_tolerance_leaves_a_drift(uint kHz, object severity, double ppm, string evidence)
    {
        var result = Run(Ran(s_source, 0), Machine(s_destination with { TscKHz = kHz }, 0));
        Assert.Equal([((FindingSeverity)severity, MigrationSide.Both, "TscDrift")], Brief(result));
        Assert.Equal(ppm, result.DriftPpm!.Value, 3);
        Assert.Equal(ppm * 0.0864, result.DriftSecondsPerDay!.Value, 3);
        Assert.Contains(evidence, result.Findings[0].Evidence, StringComparison.Ordinal);
    }

    [Fact]
    public void A_host_that_scales_to_the_guests_frequency_leaves_no_drift() =>
        Assert.Empty(Run(Ran(s_source, 0), Machine(new HostSpec(2_600_123_456, 2_600_100, 5, TscScaling.Intel) { Name = "scales", BootId = "c" }, 0)).Findings);

    [Fact]
    public void A_guest_that_is_scaled_is_warned_of_once_its_clock_may_be_off()
    {
        var source = Machine(s_source with { Scaling = TscScaling.Intel }, 0);
        GuestTsc.SetFrequencies(source, new Dictionary<int, uint> { [0] = 700_000 }, force: false, CancellationToken.None);
        GuestClock.Set(source, 0, null, force: false, CancellationToken.None);
        source.RunGuest();
        var destination = Machine(s_destination with { Scaling = TscScaling.Amd }, 0);
        Assert.Empty(Run(source, destination).Findings);
        _time.Advance(TimeSpan.FromHours(10));
        var result = Run(source, destination);
        Assert.Equal([(FindingSeverity.Warning, MigrationSide.Source, "ScaledClock")], Brief(result));
        Assert.Contains("jump by up to 0.05", result.Findings[0].Evidence, StringComparison.Ordinal);
        Assert.InRange(result.ClockErrorBoundNanoseconds!.Value - result.ErrorBoundNanoseconds!.Value, 50_000_000, 60_000_000);
    }

    [Fact]
    public void A_guest_without_a_clock_of_KVMs_is_warned_of_on_either_side()
    {
        SimulatedMachine[] sides = [Machine(s_source, 0, 1), Machine(s_destination, 0, 1)];
        Assert.Equal([(FindingSeverity.Error, MigrationSide.Source, "ClockWithoutTriple")], Brief(Run(sides[0], sides[1])));
        foreach (var side in sides)
            side.GuestClocks = KvmGuestClocks.None;
        sides[0].RunGuest();
        Assert.Equal([(FindingSeverity.Warning, MigrationSide.Source, "GuestWithoutKvmclock")], Brief(Run(sides[0], sides[1])));
        sides[1].RunGuest();
        Assert.Equal(2, Brief(Run(sides[0], sides[1])).Count(finding => finding.Item3 == "GuestWithoutKvmclock"));

        var windows = Machine(s_source, 0, 1);
        windows.GuestClocks = KvmGuestClocks.HyperV;
        windows.RunGuest();
        Assert.Empty(Run(windows, Machine(s_destination, 0, 1)).Findings);
        Assert.Equal(KvmGuestClocks.HyperV, TscMigration.Run(sides[0], windows, new TscRestoreOptions(Force: true), CancellationToken.None).GuestClocks);
    }

    [Fact]
    public void A_guest_that_can_only_be_chased_is_an_error_and_by_force_a_warning()
    {
        var source = Ran(s_source with { Scaling = TscScaling.Amd }, 0);
        GuestTsc.SetFrequencies(source, new Dictionary<int, uint> { [0] = 1_100_000 }, force: false, CancellationToken.None);
        var destination = Machine(s_destination, 0);
        Assert.Equal([(FindingSeverity.Error, MigrationSide.Both, "FrequencyUnsupported")], Brief(Run(source, destination)));
        Assert.Equal([(FindingSeverity.Warning, MigrationSide.Both, "FrequencyUnsupported")], Brief(Run(source, destination, s_byForce)));
    }

    [Fact]
    public void A_destination_whose_guest_would_go_back_is_an_error_and_by_force_a_warning()
    {
        var source = Ran(s_source, 0);
        var destination = Ran(s_destination, 0);
        GuestClock.Set(destination, 1UL << 50, null, force: false, CancellationToken.None);
        Assert.Equal([(FindingSeverity.Error, MigrationSide.Destination, "ClockBackwards")], Brief(Run(source, destination)));
        Assert.Equal([(FindingSeverity.Warning, MigrationSide.Destination, "ClockBackwards")], Brief(Run(source, destination, s_byForce)));
        var stops = destination.Stops;
        Assert.Empty(Run(source, destination, new TscPreflightOptions { LeavesDestinationAlone = true }).Findings);
        Assert.Equal(stops, destination.Stops);
    }

    [Fact]
    public void A_VM_that_may_not_be_worked_on_is_an_error_and_not_stopped()
    {
        var obstacle = new AttachObstacle(KvmErrorId.SeccompFilter, "It filters its system calls.", "Run as root.");
        var (source, destination) = (Ran(s_source, 0), Ran(s_destination, 0));
        (source.Obstacle, destination.Obstacle) = (obstacle, obstacle);
        Assert.Equal(
            [(FindingSeverity.Error, MigrationSide.Source, "SeccompFilter"), (FindingSeverity.Error, MigrationSide.Destination, "SeccompFilter")],
            Brief(Run(source, destination, s_byForce)));
        Assert.Equal((0, 0), (source.Stops, destination.Stops));
    }

    [Fact]
    public void A_kernel_without_what_it_takes_is_an_error()
    {
        Assert.Equal(
            [(FindingSeverity.Error, MigrationSide.Source, "TscOffsetUnsupported")],
            Brief(Run(Ran(s_source with { OffsetErrno = 6 }, 0), Machine(s_destination, 0))));
        Assert.Equal(
            [(FindingSeverity.Error, MigrationSide.Destination, "ClockTripleUnsupported")],
            Brief(Run(Ran(s_source, 0), Machine(s_destination with { ClockFlags = KvmClockFlags.TscStable }, 0))));
    }

    [Fact]
    public void What_fails_when_it_is_tried_is_an_error()
    {
        var (source, destination) = (Ran(s_source, 0), Ran(s_destination, 0));
        destination.VM.IsForeign = true;
        Assert.Equal([(FindingSeverity.Error, MigrationSide.Destination, "IoctlFailed")], Brief(Run(source, destination)));
    }

    [Fact]
    public void A_VM_cannot_be_migrated_to_itself_and_is_stopped_once()
    {
        var machine = Ran(s_source, 0);
        Assert.Equal([(FindingSeverity.Error, MigrationSide.Both, "SameVM")], Brief(Run(machine, machine)));
        Assert.Equal(1, machine.Stops);
    }

    [Fact]
    public void A_state_that_no_kernel_gave_is_an_error()
    {
        var state = KvmTscState.Save(Ran(s_source, 0), force: false, CancellationToken.None);
        var preflight = TscPreflight.Run(state.With(vcpus: []), Machine(s_destination, 0), new TscPreflightOptions(), CancellationToken.None);
        Assert.Equal([(FindingSeverity.Error, MigrationSide.Source, "InvalidValue")], Brief(preflight.Result));
        Assert.Equal(KvmErrorId.InvalidValue, Assert.Throws<KvmException>(preflight.Require).ErrorId);
    }

    private static (FindingSeverity, MigrationSide, string)[] Brief(KvmTscMigrationTest result) =>
        [.. result.Findings.Select(finding => (finding.Severity, finding.Side, finding.Check))];

    private static KvmTscMigrationTest Run(SimulatedMachine source, SimulatedMachine destination, TscPreflightOptions? options = null) =>
        TscPreflight.Run(source, destination, options ?? new TscPreflightOptions(), CancellationToken.None).Result;

    private SimulatedMachine Machine(HostSpec host, params int[] vcpuIds) => new(new SimulatedHost(host, _time), vcpuIds);

    private SimulatedMachine Ran(HostSpec host, params int[] vcpuIds) => Machine(host, vcpuIds).RunGuest();
}
