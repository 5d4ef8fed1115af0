using System.Diagnostics;

namespace KvmTsc.Torture;

/// <summary>
/// The proof that these tests can fail: the same target, attached to by an injector that does what injectors usually do. Attaching alone
/// has to be noticed, and killing it has to do harm that attaching does not.
/// </summary>
internal static class ControlRun
{
    private const int MostKills = 20;
    private const int EnoughHarm = 2;
    private const int Attaches = 30;
    private static readonly string s_offsets = $"{Scenario.SecondOffset},{Scenario.FirstOffset}";

    public static int Run(Options options)
    {
        var counts = new Counts();
        AttachingIsNoticed(counts);
        KillingDoesHarm(options.Count ?? MostKills, counts);
        return counts.Finish();
    }

    private static void AttachingIsNoticed(Counts counts)
    {
        using var target = StartTarget();
        using (var naive = Start(target, "--count", $"{Attaches}"))
            naive.WaitForExit();
        var noticed = target.Report().Checks.Where(check => check.Deviations > 0).ToArray();
        counts.Say($"noticed by {noticed.Length} checks: {string.Join(", ", noticed.Select(check => check.Name))}");
        counts.Expect(noticed.Any(check => check.Name.StartsWith("epoll_wait", StringComparison.Ordinal)), "an epoll_wait that was interrupted is noticed");
    }

    /// <summary>It does so about every third time, but that is chance: kills it until it has.</summary>
    private static void KillingDoesHarm(int most, Counts counts)
    {
        Target? target = null;
        var harmed = 0;
        var kills = 0;
        for (; kills < most && harmed < EnoughHarm; kills++)
        {
            target ??= StartTarget();
            using (var naive = Start(target, "--killed"))
                naive.WaitForExit();

            if (HarmTo(target) is not { } harm)
                continue;
            harmed++;
            counts.Say($"kill {kills}: {harm}");
            target.Dispose();
            target = null;
        }

        target?.Dispose();
        counts.Expect(harmed == EnoughHarm, $"killing the naive injector in its work does harm: {harmed} of {kills} times");
    }

    /// <summary>What happened to the target beyond being interrupted.</summary>
    private static string? HarmTo(Target target)
    {
        try
        {
            if (target.FindChangedRegister() is { } line)
                return line;
            var held = ThreadStates.Held(target.ProcessId);
            if (held.Count > 0)
                return $"{held.Count} threads are still held";
            return target.AwaitProgress(target.Report(), seconds: 10) is [var stalled, ..] ? $"{stalled.Name} makes no progress" : null;
        }
        catch (InvalidOperationException exception)
        {
            return exception.Message;
        }
    }

    private static Target StartTarget()
    {
        var target = Scenario.WithKvm[0].Start();
        target.IsQuiet = true;
        return target;
    }

    private static Process Start(Target target, params string[] how) => Process.Start(
        new ProcessStartInfo(Options.Program("naive"), [$"{target.ProcessId}", "--write", s_offsets, .. how]) { RedirectStandardOutput = true })!;
}
