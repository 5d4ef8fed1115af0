using KvmTsc.Clocks;
using KvmTsc.Hosts;
using KvmTsc.Machines;

namespace KvmTsc.Migration.Preflight;

/// <summary>
/// Finds everything that would make a migration fail or be inexact, without changing anything: by the rules by which it would be refused.
/// Neither side is stopped more than once.
/// </summary>
public sealed class TscPreflight
{
    private readonly TscPreflightOptions _options;
    private readonly CancellationToken _cancellationToken;
    private readonly Findings _findings;
    private bool _areTwo = true;
    private double? _sourceStopped;

    private TscPreflight(TscPreflightOptions options, CancellationToken cancellationToken)
    {
        _options = options;
        _cancellationToken = cancellationToken;
        _findings = new Findings(options.Restore.Force);
    }

    /// <summary>What was found.</summary>
    public KvmTscMigrationTest Result { get; private set; } = null!;

    /// <summary>The source's clocks; null if they could not be captured.</summary>
    public KvmTscState? State { get; private set; }

    /// <summary>Looks at a migration from a VM.</summary>
    /// <param name="source">The VM whose clocks are to be taken.</param>
    /// <param name="destination">The VM that is to get them, null for a VM of this host that is yet to come.</param>
    /// <param name="options">What to judge by.</param>
    /// <param name="cancellationToken">Ends waiting for either VM.</param>
    /// <exception cref="KvmException">This host could not be looked at.</exception>
    public static TscPreflight Run(Machine source, Machine? destination, TscPreflightOptions options, CancellationToken cancellationToken)
    {
        var preflight = new TscPreflight(options, cancellationToken);
        preflight._areTwo = destination is null || preflight._findings.Succeeds(MigrationSide.Both, () => TscMigration.RequireTwo(source, destination));
        preflight.Capture(source);
        preflight.Look(source.Identity.Name, source.Host, destination ?? new PlannedMachine(KvmHostInformation.Read(), source.VcpuIds));
        return preflight;
    }

    /// <summary>Looks at a restore of a captured state.</summary>
    /// <param name="state">The state.</param>
    /// <param name="destination">The VM that is to get it, null for a VM of this host that is yet to come.</param>
    /// <param name="options">What to judge by.</param>
    /// <param name="cancellationToken">Ends waiting for the destination.</param>
    /// <exception cref="KvmException">This host could not be looked at.</exception>
    public static TscPreflight Run(KvmTscState state, Machine? destination, TscPreflightOptions options, CancellationToken cancellationToken) =>
        Run(state, vcpuIds => destination ?? new PlannedMachine(KvmHostInformation.Read(), vcpuIds), options, cancellationToken);

    /// <summary>Looks at a migration from a VM to a host that need not be at hand, by what it said of itself.</summary>
    /// <param name="source">The VM whose clocks are to be taken.</param>
    /// <param name="host">The host that is to run the VM that gets them.</param>
    /// <param name="options">What to judge by.</param>
    /// <param name="cancellationToken">Ends waiting for the VM.</param>
    /// <exception cref="KvmException">No host can have said that.</exception>
    public static TscPreflight Plan(Machine source, KvmHostInformation host, TscPreflightOptions options, CancellationToken cancellationToken)
    {
        host.Validate();
        var preflight = new TscPreflight(options, cancellationToken);
        preflight.Capture(source);
        preflight.Look(source.Identity.Name, source.Host, new PlannedMachine(host, source.VcpuIds, preflight.State?.Instant ?? source.HostNow));
        return preflight;
    }

    /// <summary>Looks at a restore of a captured state at a host that need not be at hand, by what it said of itself. Nothing tells when that will be.</summary>
    /// <param name="state">The state.</param>
    /// <param name="host">The host that is to run the VM that gets it.</param>
    /// <param name="options">What to judge by; the downtime is the one to come.</param>
    /// <exception cref="KvmException">No host can have said that.</exception>
    public static TscPreflight Plan(KvmTscState state, KvmHostInformation host, TscPreflightOptions options)
    {
        host.Validate();
        return Run(state, vcpuIds => new PlannedMachine(host, vcpuIds, state.Instant), options, CancellationToken.None);
    }

    private static TscPreflight Run(
        KvmTscState state, Func<IReadOnlyList<int>, Machine> destination, TscPreflightOptions options, CancellationToken cancellationToken)
    {
        var preflight = new TscPreflight(options, cancellationToken);
        if (preflight._findings.Succeeds(MigrationSide.Source, state.Validate))
            preflight.State = state;
        var vcpus = preflight.State is null ? [] : state.Vcpus.Select(vcpu => vcpu.VcpuId);
        preflight.Look(state.VMName, state.Host, destination([.. vcpus.Order()]));
        return preflight;
    }

    /// <summary>The source's clocks, if nothing forbids to migrate them.</summary>
    /// <exception cref="KvmException">The first of the errors that were found, as the migration itself would give it.</exception>
    public KvmTscState Require() => _findings.FirstError is null ? State! : throw _findings.FirstError;

    private void Capture(Machine source)
    {
        if (CanAttach(source, MigrationSide.Source) && IsAble(source, MigrationSide.Source))
        {
            TscSnapshot? snapshot = null;
            _findings.Succeeds(MigrationSide.Source, () => (State, snapshot) = KvmTscState.Capture(source, force: true, asksGuestClocks: true, _cancellationToken));
            TellGuestClocks(MigrationSide.Source, source, snapshot);
        }

        TellLethal(MigrationSide.Source, source);
        _sourceStopped = State?.StoppedMicroseconds;
    }

    private void Look(string? sourceName, KvmHostIdentity? sourceHost, Machine destination)
    {
        var canStop = CanAttach(destination, MigrationSide.Destination) && IsAble(destination, MigrationSide.Destination);
        _findings.Succeeds(MigrationSide.Destination, () => MasterClock.RefuseClockSource(destination));
        var (forecast, obeys) = State is null ? (null, false) : Compare(State, destination);
        var isStopped = canStop && _areTwo && !_options.LeavesDestinationAlone && destination is not PlannedMachine;
        Result = new KvmTscMigrationTest(
            new MigrationSubject(sourceName, sourceHost?.MachineName, _sourceStopped),
            new MigrationSubject(
                destination is PlannedMachine ? null : destination.Identity.Name, destination.Host.MachineName, isStopped ? StopOnce(destination, obeys) : 0),
            forecast,
            _findings.All);
    }

    private (MigrationForecast Forecast, bool Obeys) Compare(KvmTscState state, Machine destination)
    {
        var host = destination.Host;
        var refused = RestoreRules.Of(destination, host, state, _options.Restore, _options.DowntimeSeconds).Count(rule => !_findings.Obeys(MigrationSide.Both, rule));
        var forecast = MigrationForecast.Of(state, destination, host, _options.Restore, _options.DowntimeSeconds);
        if (_options.Restore.Downtime == TscDowntime.Count)
            CompareClocks(state, host, forecast.MeasuredBy);
        if (forecast.DriftPpm is { } ppm)
            TellDrift(ppm, state.Vcpus.Min(vcpu => vcpu.TscKHz));
        TellScaledClock(state, forecast);
        return (forecast, refused == 0);
    }

    private void CompareClocks(KvmTscState state, KvmHostIdentity destination, ResidualMeasure measure)
    {
        var source = state.Host;
        _findings.Obeys(MigrationSide.Both, RestoreRules.ByJudgement(() => RealtimeRules.RefuseTaiChange(source, destination)));
        if (measure == ResidualMeasure.HostTsc)
        {
            _findings.Obeys(MigrationSide.Both, RestoreRules.ByJudgement(() => TscJudge.RefuseContradiction(state, destination)));
            if (!destination.ClockSynchronized)
                TellUnsynchronized(destination);
            return;
        }

        var areKept = _findings.Obeys(MigrationSide.Source, RestoreRules.ByJudgement(() => RealtimeRules.RefuseUnsynchronized(source)))
            & _findings.Obeys(MigrationSide.Destination, RestoreRules.ByJudgement(() => RealtimeRules.RefuseUnsynchronized(destination)));
        if (areKept)
            _findings.Obeys(MigrationSide.Both, RestoreRules.ByJudgement(() => RealtimeRules.RefuseUncertain(source, destination, _options.MaximumErrorMicroseconds)));
        if (_options.Clocks is { } comparison)
            _findings.Obeys(MigrationSide.Both, RestoreRules.ByJudgement(() => comparison.RefuseDisagreement(source, destination)));
        TellUnknownTai(MigrationSide.Source, source);
        TellUnknownTai(MigrationSide.Destination, destination);
    }

    private void TellUnsynchronized(KvmHostIdentity host) => _findings.Add(
        FindingSeverity.Information,
        MigrationSide.Both,
        nameof(KvmErrorId.ClockUnsynchronized),
        $"CLOCK_REALTIME of {host.MachineName} is not synchronised. Source and destination have the same, so that matters only if it is set in between.",
        "Have an NTP client synchronise it (chronyc tracking, timedatectl).");

    private void TellUnknownTai(MigrationSide side, KvmHostIdentity host)
    {
        if (!RealtimeRules.IsTaiUnknown(host))
            return;
        _findings.Add(
            FindingSeverity.Information,
            side,
            "TaiOffsetUnknown",
            $"Nobody told the kernel of {host.MachineName} how far TAI is ahead of UTC: a leap second in between would go unnoticed.",
            "Have the NTP client tell it (chrony: leapsectz right/UTC).");
    }

    private void TellDrift(double ppm, uint slowestKHz)
    {
        const double Unnoticeable = 0.001;
        if (Math.Abs(ppm) < Unnoticeable)
            return;
        var rounding = 1e6 / slowestKHz;
        var isRounding = Math.Abs(ppm) < 1.5 * rounding; // frequencies are whole kHz, so that it is one
        _findings.Add(
            isRounding ? FindingSeverity.Information : FindingSeverity.Warning,
            MigrationSide.Both,
            "TscDrift",
            FormattableString.Invariant(
                $"The guest's TSC will be {Math.Abs(ppm):0.###} ppm {(ppm < 0 ? "slower" : "faster")} than it was on the source, {Math.Abs(ppm) * MigrationForecast.SecondsPerDay:0.###} s a day; the hosts' frequencies are known to {rounding:0.###} ppm."),
            "An NTP client in the guest makes up for that. To avoid it, use a host with TSC scaling, or one whose TSC is nearer to the source's.");
    }

    private void TellScaledClock(KvmTscState state, MigrationForecast forecast)
    {
        const double Unnoticeable = 1000;
        var error = forecast.ScaledClockErrorNanoseconds;
        if (error < Unnoticeable)
            return;
        _findings.Add(
            FindingSeverity.Warning,
            MigrationSide.Source,
            "ScaledClock",
            FormattableString.Invariant(
                $"The TSC of {state.VMName} is scaled, so that its guest sees kvmclock run {ClockLine.ScaledClockPpm(state):0.###} ppm beside what KVM tells of it, for as long as KVM has not taken its master clock anew: the guest's clock would jump by up to {error / 1e9:0.######} s."),
            "A guest whose clocksource is tsc sees nothing of it, and an NTP client in the guest makes up for it.");
    }

    private double? StopOnce(Machine destination, bool obeys)
    {
        double? stopped = null;
        TscSnapshot? before = null;
        _findings.Succeeds(MigrationSide.Destination, () =>
        {
            var taken = TscSnapshot.Of(destination, asksGuestClocks: true, timesClock: true).Take(_cancellationToken);
            (before, stopped) = (taken.Result, taken.Microseconds);
        });
        TellGuestClocks(MigrationSide.Destination, destination, before);
        if (before is not null && obeys)
        {
            // The rules were obeyed; that the state is older by now is for the restore to see.
            var restore = new TscRestore(destination, State!, _options.Restore with { Force = false, MaximumDowntime = null });
            _findings.Obeys(MigrationSide.Destination, RestoreRules.ByJudgement(() => restore.Refuse(before)));
        }

        TellLethal(MigrationSide.Destination, destination);
        return stopped;
    }

    private void TellLethal(MigrationSide side, Machine machine)
    {
        if (!machine.Executor.DeathIsLethal)
            return;
        _findings.Add(
            FindingSeverity.Warning,
            side,
            "SeccompLethal",
            $"The VMM of {machine.Identity.Name} forbids itself by seccomp what is done there, which is suspended for as long as KvmTsc works: if KvmTsc is killed just then, the VMM is, too.",
            "Let nothing end KvmTsc meanwhile (a time limit, the OOM killer), or start the VMM without its filter.");
    }

    private void TellGuestClocks(MigrationSide side, Machine machine, TscSnapshot? snapshot)
    {
        if (snapshot?.GuestClocks is not { } clocks || !KvmGuestClocksAdvice.Concerns(machine, clocks))
            return;
        _findings.Add(
            FindingSeverity.Warning,
            side,
            "GuestWithoutKvmclock",
            KvmGuestClocksAdvice.Unmoved(machine.Identity.Name),
            KvmGuestClocksAdvice.Action);
    }

    private bool CanAttach(Machine machine, MigrationSide side) =>
        machine.FindAttachObstacle() is not { } obstacle || _findings.Succeeds(side, () => throw obstacle.ToException());

    private bool IsAble(Machine machine, MigrationSide side) => _findings.Succeeds(side, machine.Abilities.Require);
}
