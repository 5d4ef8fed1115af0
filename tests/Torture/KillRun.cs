namespace KvmTsc.Torture;

/// <summary>
/// Kills a process that attaches, at random instants, or after each of its acts; but for what docs/attach.md excepts: targets under a seccomp filter that forbids what the payload does,
/// which is suspended only as long as the tracer lives, and where all threads are stopped. Afterwards the target has to run on as if nothing had been: no deviation, all
/// checks make progress, offsets all old or all new, no thread stopped or traced. The payload's mappings may be left, and are counted.
/// </summary>
internal static class KillRun
{
    private const int DefaultCount = 500;

    /// <summary>Paused, waited for, and resumed.</summary>
    private static readonly Scenario s_resumed = new("resumed", 0, true, true, "--stop-clock");

    /// <summary>At random instants.</summary>
    public static int Run(Options options)
    {
        var counts = new Counts();
        foreach (var (scenario, count) in Scenario.Divide(options.Count ?? DefaultCount, Scenarios(options)))
        {
            using var run = new ScenarioRun(scenario, counts);
            run.Run(index => index < count ? run.Kill(index) : null);
        }

        return counts.Finish();
    }

    /// <summary>After each of the acts of an attach, one after the other; also of one that waits for a resume.</summary>
    public static int RunActs(Options options)
    {
        var counts = new Counts();
        foreach (var scenario in Scenarios(options, s_resumed))
        {
            using var run = new ScenarioRun(scenario, counts);
            run.Run(index => run.KillAfter(index + 1, atResume: scenario == s_resumed));
        }

        return counts.Finish();
    }

    private static Scenario[] Scenarios(Options options, params Scenario[] further) =>
        [.. Scenario.Chosen(options, further).Where(scenario => !scenario.IsFiltered && scenario.KnowsThreads)];

    private sealed class ScenarioRun(Scenario scenario, Counts counts) : IDisposable
    {
        private readonly Dictionary<KillPhase, int> _phases = [];
        private Target? _target;
        private AttackerProcess? _attacker;
        private readonly LeftPayloads _payloads = new();
        private long _deviations;

        /// <summary>Kills until there is nothing left to kill.</summary>
        /// <param name="kill">Kills, told how many were killed before; returns what was hit and how, null if there was nothing left.</param>
        public void Run(Func<int, (KillPhase Phase, string How)?> kill)
        {
            try
            {
                var count = 0;
                while (KillOnce(count, kill))
                {
                    if (++count % 25 == 0 && _target is not null)
                        AttachRun.Look(_target, counts, $"{count} kills");
                }

                var list = _phases.OrderBy(phase => phase.Key).Select(phase => $"{phase.Value} {phase.Key.ToString().ToLowerInvariant()}");
                counts.Say($"{scenario.Name}: {count} kills: {string.Join(", ", list)}; {_payloads.Count} left the payload's memory behind");
                if (_target is not null)
                    AttachRun.End(scenario, _target, _payloads.Resources, counts, _deviations);
            }
            catch (InvalidOperationException exception)
            {
                counts.Fail($"{scenario.Name}: {exception.Message}");
            }
        }

        private void Begin()
        {
            _target = scenario.Start();
            _payloads.Resources = _target.Resources(); // from here on they have to stay
            _attacker = new AttackerProcess(scenario.PlaceIn(_target));
            _deviations = 0;
        }

        /// <summary>A target that was harmed is of no more use.</summary>
        public void Dispose()
        {
            _attacker?.Dispose();
            _target?.Dispose();
            (_attacker, _target) = (null, null);
        }

        /// <summary>Kills at a random instant.</summary>
        public (KillPhase Phase, string How)? Kill(int index) => (_attacker!.Attack(index % 2 == 0 ? Attacker.InBatch : Attacker.Anywhere), $"kill {index}");

        /// <summary>Kills after so many acts.</summary>
        public (KillPhase Phase, string How)? KillAfter(int acts, bool atResume)
        {
            if (atResume)
                _target!.Pause();
            return _attacker!.AttackWithActs(acts, atResume ? _target!.Continue : null) is var (phase, act) ? (phase, $"killed after {acts} acts, the last {act}") : null;
        }

        private bool KillOnce(int index, Func<int, (KillPhase Phase, string How)?> kill)
        {
            if (_target is null)
                Begin();
            var failedBefore = counts.Failed;
            var what = $"kill {index}";
            try
            {
                if (kill(index) is not var (phase, how))
                    return false;
                what = $"{how} ({phase})";
                _phases[phase] = _phases.GetValueOrDefault(phase) + 1;
                Check(what, phase);
            }
            catch (InvalidOperationException exception)
            {
                Fail(what, exception.Message);
                Dispose();
            }

            if (counts.Failed == failedBefore)
                counts.Pass();
            return true;
        }

        private void Check(string what, KillPhase phase)
        {
            var target = _target!;

            // The kernel let go of all threads before the attacker could be waited for.
            foreach (var thread in ThreadStates.Held(target.ProcessId))
                Fail(what, $"thread {thread} is still held");
            // What a carrier is at it finishes by itself. The threads of vCPUs that have run are held until then, and answer afterwards; where none is held, anybody
            // may see it half done before it has gone home.
            var before = target.Report();
            if (!scenario.HasRun)
                AwaitProgress(what, before);
            if (scenario.CanReadOffsets)
                _ = target.Offsets();
            var offsets = scenario.Witness(target).Distinct().ToArray();
            if (offsets is not [Scenario.FirstOffset or Scenario.SecondOffset])
                Fail(what, $"offsets {string.Join(", ", offsets)}");
            AwaitProgress(what, before);
            // Once others are sent to the payload's memory, they may be there still.
            var mayBeLeft = phase is KillPhase.Stopping or KillPhase.Reading or KillPhase.Writing or KillPhase.Stopped or KillPhase.Releasing;
            if (_payloads.Look(target.Resources(), mayBeLeft) is { } wrong)
                Fail(what, wrong);
            var report = target.Report();
            if (report.Deviations > _deviations)
                Fail(what, $"{report.Deviations - _deviations} deviations, of {report.Deviating}");
            _deviations = report.Deviations;
        }

        private void AwaitProgress(string what, TargetReport since)
        {
            foreach (var stalled in _target!.AwaitProgress(since))
                Fail(what, $"{stalled.Name} makes no progress");
        }

        private void Fail(string what, string wrong) => counts.Fail($"{scenario.Name}, {what}: {wrong}");
    }
}
