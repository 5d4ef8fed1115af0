using System.Diagnostics;

namespace KvmTsc.Torture;

/// <summary>
/// Watches a VM that nobody resumes, again and again, and has the target not notice. Of one that has run only the vCPUs' threads are watched: three of four watches are
/// ended by a SIGKILL of the process that watches, the others as by Ctrl+C. Of one that never ran every system call of every thread stops, and what is ignored reaches
/// threads that wait: a death just then ends their wait, as docs/attach.md says, so that these watches are ended in the other way.
/// </summary>
internal static class WatchRun
{
    private const int DefaultCount = 200;
    private const int LongestMilliseconds = 300;

    // Of these no vCPU enters KVM_RUN, which would end the watch.
    private static readonly string[] s_names = ["paused", "never run"];

    public static int Run(Options options)
    {
        var counts = new Counts();
        Scenario[] scenarios = [.. Scenario.Chosen(options).Where(scenario => s_names.Contains(scenario.Name))];
        foreach (var (scenario, count) in Scenario.Divide(options.Count ?? DefaultCount, scenarios))
            Run(scenario, count, counts);
        return counts.Finish();
    }

    private static void Run(Scenario scenario, int count, Counts counts)
    {
        using var target = scenario.Start();
        try
        {
            var resources = target.Resources();
            var deviations = 0L;
            Process? watcher = null;
            for (var i = 0; i < count && !target.HasEnded; i++)
            {
                var failedBefore = counts.Failed;
                var before = target.Report();
                watcher = Watch(watcher ?? Self.Start([], "watch-one", $"{target.ProcessId}"), isKilled: scenario.HasRun && i % 4 != 0);
                deviations = Check(scenario, target, before, $"watch {i}, {(watcher is null ? "killed" : "ended")}", deviations, counts);
                if (counts.Failed == failedBefore)
                    counts.Pass();
            }

            Stop(watcher);
            AttachRun.End(scenario, target, resources, counts, deviations);
        }
        catch (InvalidOperationException exception)
        {
            counts.Fail($"{scenario.Name}: {exception.Message}");
        }
    }

    /// <summary>Has a process watch for some time.</summary>
    /// <returns>The process, null where it was killed.</returns>
    private static Process? Watch(Process watcher, bool isKilled)
    {
        watcher.StandardInput.WriteLine();
        watcher.StandardInput.Flush();
        Expect(watcher, Watcher.Watching);
        Thread.Sleep(Random.Shared.Next(LongestMilliseconds));
        if (isKilled)
        {
            Stop(watcher);
            return null;
        }

        watcher.StandardInput.WriteLine();
        watcher.StandardInput.Flush();
        Expect(watcher, Watcher.Ended);
        return watcher;
    }

    internal static void Expect(Process watcher, string expected)
    {
        var line = watcher.StandardOutput.ReadLineAsync();
        if (!Patience.Wait(line))
            throw new InvalidOperationException("The process that watches hangs.");
        if (line.Result != expected)
            throw new InvalidOperationException($"The process that watches said {line.Result ?? "nothing"} instead of {expected}.");
    }

    internal static void Stop(Process? watcher)
    {
        watcher?.Kill();
        watcher?.WaitForExit();
        watcher?.Dispose();
    }

    /// <summary>That a target goes on, with no thread held and no deviation but those that counted before.</summary>
    /// <returns>How many there are.</returns>
    internal static long Check(Scenario scenario, Target target, TargetReport before, string when, long counted, Counts counts)
    {
        // The kernel lets go of what a thread traced when that has ended, which nobody waits for who ends a watch.
        foreach (var stalled in target.AwaitProgress(before))
            counts.Fail($"{scenario.Name}, {when}: {stalled.Name} makes no progress");
        foreach (var thread in ThreadStates.Held(target.ProcessId))
            counts.Fail($"{scenario.Name}, {when}: thread {thread} is still held");
        var report = target.Report();
        if (report.Deviations > counted)
            counts.Fail($"{scenario.Name}, {when}: {report.Deviations - counted} deviations, of {report.Deviating}");
        return report.Deviations;
    }
}
