namespace KvmTsc.Torture;

/// <summary>Attaches many times, reading and writing in turn; the target may not notice, and the results have to be right.</summary>
internal static class AttachRun
{
    private const int DefaultCount = 2000;
    private const int Kinds = 3;

    public static int Run(Options options)
    {
        var counts = new Counts();
        foreach (var (scenario, count) in Scenario.Divide(options.Count ?? DefaultCount, Scenario.Chosen(options)))
            Run(scenario, count, counts);
        return counts.Finish();
    }

    private static void Run(Scenario scenario, int count, Counts counts)
    {
        using var target = scenario.Start();
        try
        {
            var resources = target.Resources(); // from here on they have to stay
            using var work = new WorkerProcess(scenario.PlaceIn(target));
            var stopped = new List<double>();
            for (var i = 0; i < count && !target.HasEnded; i++)
            {
                Attach(scenario, target, work, i, stopped, counts);
                if (i % 100 == 99)
                    Look(target, counts, $"{i + 1} of {count} attaches");
            }

            stopped.Sort();
            if (stopped.Count > 0)
                counts.Say($"{scenario.Name}: stopped for {stopped[stopped.Count / 2]:0} us (median), {stopped[^1]:0} us (longest)");
            End(scenario, target, resources, counts);
        }
        catch (InvalidOperationException exception)
        {
            counts.Fail($"{scenario.Name}: {exception.Message}");
        }
    }

    private static void Attach(Scenario scenario, Target target, IWork work, int index, List<double> stopped, Counts counts)
    {
        var failedBefore = counts.Failed;
        try
        {
            var expected = Work(work, index, out var stoppedMicroseconds);
            stopped.Add(stoppedMicroseconds);
            var witness = scenario.Witness(target);
            if (!witness.All(expected.Contains))
                counts.Fail($"{scenario.Name}, attach {index}: offsets {string.Join(", ", expected)}, but there are {string.Join(", ", witness)}");
        }
        catch (InvalidDataException exception)
        {
            counts.Fail($"{scenario.Name}, attach {index}: {exception.Message}");
        }

        if (index % 10 == 0 && ThreadStates.Held(target.ProcessId) is { Count: > 0 } held)
            counts.Fail($"{scenario.Name}, attach {index}: left {string.Join(", ", held)}");
        if (counts.Failed == failedBefore)
            counts.Pass();
    }

    /// <summary>Reads, or writes the one or the other offset; returns what the offsets have to be then.</summary>
    private static IReadOnlyList<long> Work(IWork work, int index, out double stoppedMicroseconds)
    {
        if (index % Kinds == 0)
            return work.Read(out stoppedMicroseconds);
        var offset = index % Kinds == 1 ? Scenario.SecondOffset : Scenario.FirstOffset;
        stoppedMicroseconds = work.Write(offset);
        return [offset];
    }

    /// <summary>Says how the target is, and counts nothing.</summary>
    internal static TargetReport Look(Target target, Counts counts, string when)
    {
        var report = target.Report();
        counts.Say($"{target.Name}, {when}: {report.Checks.Count} checks, {report.Iterations} iterations, {report.Deviations} deviations, {report.Late} late");
        return report;
    }

    /// <summary>Has the target run on, compare its offsets and resources, and end; its deviations count, but for those that did already.</summary>
    internal static void End(Scenario scenario, Target target, TargetResources expected, Counts counts, long countedDeviations = 0)
    {
        foreach (var stalled in target.AwaitProgress(target.Report()))
            counts.Fail($"{scenario.Name}: {stalled.Name} makes no progress");
        if (scenario.CanReadOffsets && !target.Offsets().SequenceEqual(scenario.Witness(target)))
            counts.Fail($"{scenario.Name}: its own vCPU threads read other offsets than debugfs has");
        if (target.Resources() is var resources && resources != expected)
            counts.Fail($"{scenario.Name}: there were {expected}, there are {resources}");
        Look(target, counts, "at the end");
        var report = target.Quit();
        if (report.Deviations > countedDeviations)
            counts.Fail($"{scenario.Name}: {report.Deviations - countedDeviations} deviations, of {report.Deviating}", (int)(report.Deviations - countedDeviations));
        if (target.ExitStatus != (report.Deviations > 0 ? 1 : 0))
            counts.Fail($"{scenario.Name}: exit status {target.ExitStatus}");
    }
}
