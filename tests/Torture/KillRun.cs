namespace KvmTsc.Torture;

/// <summary>
/// Kills a process that attaches, at random instants; but for what docs/attach.md excepts: targets under a seccomp filter that forbids what the payload does,
/// which is suspended only as long as the tracer lives, and where all threads are stopped. Afterwards the target has to run on as if nothing had been: no deviation, all
/// checks make progress, offsets all old or all new, no thread stopped or traced. The payload's mappings may be left, and are counted.
/// </summary>
internal static class KillRun
{
    private const int DefaultCount = 500;

    public static int Run(Options options)
    {
        var counts = new Counts();
        Scenario[] scenarios = [.. Scenario.Chosen(options).Where(scenario => !scenario.IsFiltered && scenario.KnowsThreads)];
        foreach (var (scenario, count) in Scenario.Divide(options.Count ?? DefaultCount, scenarios))
        {
            using var run = new ScenarioRun(scenario, counts);
            run.Run(count);
        }

        return counts.Finish();
    }

    private sealed class ScenarioRun(Scenario scenario, Counts counts) : IDisposable
    {
        private readonly Dictionary<KillPhase, int> _phases = [];
        private Target? _target;
        private AttackerProcess? _attacker;
        private readonly LeftPayloads _payloads = new();
        private long _deviations;

        public void Run(int count)
        {
            try
            {
                for (var i = 0; i < count; i++)
                {
                    if (_target is null)
                        Begin();
                    Kill(i);
                    if (i % 25 == 24 && _target is not null)
                        AttachRun.Look(_target, counts, $"{i + 1} of {count} kills");
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

        private void Kill(int index)
        {
            var failedBefore = counts.Failed;
            var where = index % 2 == 0 ? Attacker.InBatch : Attacker.Anywhere;
            KillPhase? phase = null;
            try
            {
                phase = _attacker!.Attack(where);
                _phases[phase.Value] = _phases.GetValueOrDefault(phase.Value) + 1;
                Check(index, phase);
            }
            catch (InvalidOperationException exception)
            {
                Fail(index, phase, exception.Message);
                Dispose();
            }

            if (counts.Failed == failedBefore)
                counts.Pass();
        }

        private void Check(int index, KillPhase? phase)
        {
            var target = _target!;

            // The kernel let go of all threads before the attacker could be waited for.
            foreach (var thread in ThreadStates.Held(target.ProcessId))
                Fail(index, phase, $"thread {thread} is still held");
            var before = target.Report();
            if (scenario.CanReadOffsets)
                _ = target.Offsets();
            var offsets = scenario.Witness(target).Distinct().ToArray();
            if (offsets is not [Scenario.FirstOffset or Scenario.SecondOffset])
                Fail(index, phase, $"offsets {string.Join(", ", offsets)}");
            foreach (var stalled in target.AwaitProgress(before))
                Fail(index, phase, $"{stalled.Name} makes no progress");
            // Once others are sent to the payload's memory, they may be there still.
            var mayBeLeft = phase is KillPhase.Stopping or KillPhase.Reading or KillPhase.Writing or KillPhase.Stopped or KillPhase.Releasing;
            if (_payloads.Look(target.Resources(), mayBeLeft) is { } wrong)
                Fail(index, phase, wrong);
            var report = target.Report();
            if (report.Deviations > _deviations)
                Fail(index, phase, $"{report.Deviations - _deviations} deviations, of {report.Deviating}");
            _deviations = report.Deviations;
        }

        private void Fail(int index, KillPhase? phase, string what) => counts.Fail($"{scenario.Name}, kill {index} ({phase}): {what}");
    }
}
