namespace KvmTsc.Torture;

/// <summary>
/// Kills a process that attaches, at random instants. Afterwards the target has to run on as if nothing had been: no deviation, all
/// checks make progress, offsets all old or all new, no thread stopped or traced, no mapping left.
/// </summary>
internal static class KillRun
{
    private const int DefaultCount = 500;

    public static int Run(Options options)
    {
        var counts = new Counts();
        foreach (var scenario in Scenario.Chosen(options))
            new ScenarioRun(scenario, options, counts).Run(scenario.PartOf(options.Count ?? DefaultCount, options));
        return counts.Finish();
    }

    private sealed class ScenarioRun(Scenario scenario, Options options, Counts counts)
    {
        private readonly Dictionary<KillPhase, int> _phases = [];
        private Target? _target;
        private Place? _place;
        private AttackerProcess? _attacker;
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
                counts.Say($"{scenario.Name}: {count} kills: {string.Join(", ", list)}");
                if (_target is not null)
                    AttachRun.End(scenario, _target, counts, _deviations);
            }
            catch (InvalidOperationException exception)
            {
                counts.Fail($"{scenario.Name}: {exception.Message}");
            }
            finally
            {
                Drop();
            }
        }

        private void Begin()
        {
            _target = scenario.Start(options);
            _place = scenario.PlaceIn(_target);
            _target.Resources(); // from here on they have to stay
            _attacker = AttackerProcess.Start(_place!);
            _deviations = 0;
        }

        /// <summary>A target that was harmed is of no more use.</summary>
        private void Drop()
        {
            _attacker?.Dispose();
            _target?.Dispose();
            (_attacker, _target) = (null, null);
        }

        private void Kill(int index)
        {
            var failedBefore = counts.Failed;
            var where = index % 2 == 0 ? Attacker.InBatch : Attacker.Anywhere;
            using var attacker = _attacker!;
            _attacker = AttackerProcess.Start(_place!); // the next one gets ready meanwhile
            var phase = attacker.Attack(where, out var explanation);
            if (phase is { } known)
                _phases[known] = _phases.GetValueOrDefault(known) + 1;
            else
                Fail(index, phase, explanation);

            try
            {
                Check(index, phase);
            }
            catch (InvalidOperationException exception)
            {
                Fail(index, phase, exception.Message);
                Drop();
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
            _ = target.Resources();
            foreach (var stalled in target.AwaitProgress(before))
                Fail(index, phase, $"{stalled.Name} makes no progress");
            var report = target.Report();
            if (report.Deviations > _deviations)
                Fail(index, phase, $"{report.Deviations - _deviations} deviations");
            _deviations = report.Deviations;
        }

        private void Fail(int index, KillPhase? phase, string what) => counts.Fail($"{scenario.Name}, kill {index} ({phase}): {what}");
    }
}
