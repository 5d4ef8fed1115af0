using FsCheck;
using FsCheck.Fluent;
using KvmTsc.Hosts;
using KvmTsc.Interop;
using KvmTsc.Migration;
using KvmTsc.Migration.Preflight;
using KvmTsc.Tests.Simulation;

namespace KvmTsc.Tests.Migration;

/// <summary>What is found of a host by what it said of itself, and that it is what is found there.</summary>
public sealed class PlanTests
{
    private static readonly HostSpec s_source = HostSpec.Ordinary with { Name = "source", BootId = "a", TscStart = 1UL << 45 };
    private static readonly HostSpec s_destination = HostSpec.Ordinary with { Name = "destination", BootId = "b" };

    private readonly SimulatedTime _time = new();

    private static Gen<MigrationScenario> AnyAtAll { get; } =
        from scenario in MigrationScenario.Any
        from scales in Gen.Elements(true, true, false)
        from synchronized in Gen.Elements(true, true, false)
        from tai in Gen.Elements(37, 37, 36, 0)
        from tolerance in Gen.Elements<uint>(250, 250, 0, 1000)
        from errno in Gen.Elements(0, 0, 0, 22)
        let destination = scenario.Destination with
        {
            Scaling = scales ? scenario.Destination.Scaling : TscScaling.None,
            ClockSynchronized = synchronized,
            TaiOffsetSeconds = tai,
            TolerancePpm = tolerance,
            OffsetErrno = errno,
        }
        select scenario with { Destination = destination, Kind = DestinationKind.NeverRan };

    [Fact]
    public void What_is_found_is_what_is_found_there() => Properties.Hold(AnyAtAll.Zip(Gen.Elements(TscDowntime.Count, TscDowntime.Exclude)), given =>
    {
        var (scenario, downtime) = given;
        var migration = scenario.Start();
        var options = new TscPreflightOptions { Restore = new(Downtime: downtime), LeavesDestinationAlone = true };
        var there = TscPreflight.Run(migration.State, migration.Destination, options, CancellationToken.None).Result;

        var planned = options with { DowntimeSeconds = there.DowntimeNanoseconds!.Value / 1e9 };
        var result = TscPreflight.Plan(migration.State, migration.Destination.Information, planned).Result;
        Assert.Equal(there.Findings.Select(finding => finding.ToString()), result.Findings.Select(finding => finding.ToString()));
        Assert.Equal(
            (there.Passed, there.MeasuredBy, there.MachineName, there.DriftPpm, (string?)null), (result.Passed, result.MeasuredBy, result.MachineName, result.DriftPpm, result.VMName));
        Assert.Equal(there.ErrorBoundNanoseconds!.Value, result.ErrorBoundNanoseconds!.Value, there.ErrorBoundNanoseconds.Value / 1e6);
    });

    [Fact]
    public void A_guest_is_refused_by_each_host_that_cannot_have_it()
    {
        var state = KvmTscState.Save(Ran(s_source), force: false, CancellationToken.None);
        Assert.True(Plan(state, s_destination).Passed);
        Assert.True(Plan(state, s_destination with { TscKHz = 1_300_000, Scaling = TscScaling.Amd }).Passed);
        var finding = Assert.Single(Plan(state, s_destination with { TscKHz = 1_300_000 }).Findings);
        Assert.Equal((FindingSeverity.Error, "FrequencyUnsupported"), (finding.Severity, finding.Check));
        Assert.Contains("slower than the host's 1300000 kHz", finding.Evidence, StringComparison.Ordinal);
    }

    [Fact]
    public void A_clocksource_that_is_no_TSC_is_found()
    {
        var destination = Machine(s_destination);
        destination.VM.ClocksourceIsTsc = false;
        var state = KvmTscState.Save(Ran(s_source), force: false, CancellationToken.None);
        Assert.Equal(["ClockWithoutTriple"], TscPreflight.Plan(state, destination.Information, new()).Result.Findings.Select(finding => finding.Check));
    }

    [Theory]
    [InlineData(0, 1, true)]
    [InlineData(5, 1, false)]
    public void The_downtime_is_the_one_to_come_whenever_the_state_is_of(double seconds, double maximum, bool passes)
    {
        var state = KvmTscState.Save(Ran(s_source), force: false, CancellationToken.None);
        _time.Advance(TimeSpan.FromDays(100));
        var options = new TscPreflightOptions { DowntimeSeconds = seconds, Restore = new(MaximumDowntime: TimeSpan.FromSeconds(maximum)) };
        var result = TscPreflight.Plan(state, Machine(s_destination).Information, options).Result;
        Assert.Equal((passes, (long)(seconds * 1e9)), (result.Passed, result.DowntimeNanoseconds));
    }

    [Fact]
    public void The_boot_that_the_state_is_of_has_the_TSC_that_goes_on()
    {
        var source = Ran(s_source with { ClockSynchronized = false });
        source.SimulatedHost.Suspend(TimeSpan.FromHours(1), tscBeginsAnew: false);
        var state = KvmTscState.Save(source, force: false, CancellationToken.None);
        var result = TscPreflight.Plan(state, source.Information, new()).Result;
        Assert.Equal((true, ResidualMeasure.HostTsc, 0.0), (result.Passed, result.MeasuredBy, result.DriftPpm));
    }

    [Fact]
    public void A_VM_is_looked_at_once()
    {
        var source = Ran(s_source);
        var result = TscPreflight.Plan(source, Machine(s_destination).Information, new(), CancellationToken.None).Result;
        Assert.Equal((true, 1, source.Identity.Name, "destination"), (result.Passed, source.Stops, result.SourceVMName, result.MachineName));
        Assert.Equal(0, result.DowntimeNanoseconds);

        var neverRan = Machine(s_source);
        Assert.Equal(
            ["ClockWithoutTriple"],
            TscPreflight.Plan(neverRan, Machine(s_destination).Information, new(), CancellationToken.None).Result.Findings.Select(finding => finding.Check));
    }

    [Fact]
    public void What_no_host_can_be_is_refused()
    {
        var broken = SimulatedMachine.Describe("broken", "b", 0, 0, 250);
        var source = Ran(s_source);
        var state = KvmTscState.Save(source, force: false, CancellationToken.None);
        Assert.Equal(KvmErrorId.InvalidValue, Assert.Throws<KvmException>(() => TscPreflight.Plan(state, broken, new())).ErrorId);
        Assert.Equal(KvmErrorId.InvalidValue, Assert.Throws<KvmException>(() => TscPreflight.Plan(source, broken, new(), CancellationToken.None)).ErrorId);
        Assert.Equal(1, source.Stops);
    }

    private KvmTscMigrationTest Plan(KvmTscState state, HostSpec host) => TscPreflight.Plan(state, Machine(host).Information, new()).Result;

    private SimulatedMachine Machine(HostSpec host) => new(new SimulatedHost(host, _time), 0, 1);

    private SimulatedMachine Ran(HostSpec host) => Machine(host).RunGuest();
}
