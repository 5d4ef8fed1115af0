using System.Diagnostics;

namespace KvmTsc.Torture;

/// <summary>
/// Watches a VM's clocks by a process that is killed by SIGKILL at any instant, started again, and killed again. The VM is paused meanwhile, and its VMM sets
/// kvmclock back each time, as QEMU does; sometimes nobody watches. Once a watch has started, kvmclock has to be right again, by what the target itself reads, and the
/// target may have noticed nothing.
/// </summary>
internal static class GuardRun
{
    private const int DefaultCount = 100;
    private const int LongestPauseMilliseconds = 500;
    private const int LongestWatchMilliseconds = 1000;
    private const long ToleranceNanoseconds = 100_000;

    /// <summary>That CLOCK_REALTIME and the TSC may part by.</summary>
    private const double TolerancePpm = 1;

    private static readonly Scenario s_scenario = new("loses time", 100, true, true, "--stop-clock", "--late-kicks");

    public static int Run(Options options)
    {
        var counts = new Counts();
        var states = Directory.CreateTempSubdirectory("guard-").FullName;
        using var target = s_scenario.Start();
        try
        {
            new Guarded(target, states, counts).Run(options.Count ?? DefaultCount);
        }
        catch (InvalidOperationException exception)
        {
            counts.Fail(exception.Message);
        }
        finally
        {
            Directory.Delete(states, recursive: true);
        }

        return counts.Finish();
    }

    private sealed class Guarded(Target target, string states, Counts counts)
    {
        private readonly Stopwatch _sinceFirst = new();
        private readonly LeftPayloads _payloads = new();
        private long _lag;
        private long _deviations;
        private double _longestWrong;
        private int _startMilliseconds;

        public void Run(int count)
        {
            _payloads.Resources = target.Resources();
            End(Start());
            _lag = target.Lag() ?? throw new InvalidOperationException("The target has no master clock.");
            _sinceFirst.Start();
            for (var i = 0; i < count; i++)
            {
                var failedBefore = counts.Failed;
                var before = target.Report();
                Kill(i);
                _deviations = WatchRun.Check(s_scenario, target, before, $"kill {i}", _deviations, counts);
                if (_payloads.Look(target.Resources()) is { } wrong)
                    counts.Fail($"kill {i}: {wrong}");
                if (counts.Failed == failedBefore)
                    counts.Pass();
            }

            var last = Start();
            ExpectRight("the last watch");
            End(last);
            counts.Expect(!Directory.EnumerateDirectories("/sys/kernel/debug/tracing/instances", "kvmtsc-*").Any(), "tracefs has what killed watches left");
            counts.Say(
                $"{count} kills, {_payloads.Count} of which left a payload; kvmclock was wrong for {_longestWrong:0} ms at most after a watch had started, "
                + $"which took {_startMilliseconds} ms at first");
            AttachRun.End(s_scenario, target, _payloads.Resources, counts, _deviations);
        }

        /// <summary>One of four is killed while it starts, the others while they watch.</summary>
        private void Kill(int index)
        {
            if (index % 4 == 0)
            {
                Pause();
                var starting = Launch();
                Thread.Sleep(Random.Shared.Next(_startMilliseconds));
                WatchRun.Stop(starting);
                return;
            }

            var watcher = Start();
            ExpectRight($"watch {index}");
            var killed = Task.Run(() =>
            {
                Thread.Sleep(Random.Shared.Next(LongestWatchMilliseconds));
                WatchRun.Stop(watcher);
            });
            do
                Pause();
            while (!killed.IsCompleted);
            killed.Wait();
        }

        private void Pause()
        {
            target.Pause();
            Thread.Sleep(Random.Shared.Next(LongestPauseMilliseconds));
            target.Continue();
        }

        private Process Launch() => Self.Start([], "guard-one", states);

        private Process Start()
        {
            var clock = Stopwatch.StartNew();
            var watcher = Launch();
            WatchRun.Expect(watcher, Guard.Watching);
            if (_startMilliseconds == 0)
                _startMilliseconds = (int)clock.ElapsedMilliseconds;
            return watcher;
        }

        private static void End(Process watcher)
        {
            watcher.StandardInput.Close();
            if (!Patience.Wait(watcher))
                throw new InvalidOperationException("The process that watches does not end.");
            watcher.Dispose();
        }

        private void ExpectRight(string when)
        {
            var clock = Stopwatch.StartNew();
            long? wrong;
            for (var looks = 0; !IsRight(out wrong); looks++)
            {
                if (looks > Patience.Seconds * 10)
                {
                    counts.Fail($"{when}: kvmclock is {wrong} ns behind");
                    return;
                }

                Thread.Sleep(100);
            }

            _longestWrong = Math.Max(_longestWrong, clock.Elapsed.TotalMilliseconds);
        }

        private bool IsRight(out long? wrong)
        {
            wrong = target.Lag() - _lag;
            return Math.Abs(wrong ?? long.MaxValue) < ToleranceNanoseconds + (_sinceFirst.Elapsed.TotalNanoseconds * TolerancePpm / 1e6);
        }
    }
}
