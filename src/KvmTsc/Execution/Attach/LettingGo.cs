using System.Diagnostics;

namespace KvmTsc.Execution.Attach;

/// <summary>
/// Lets many threads go. Each has to stand still for that: all are asked to at once, and go on as they arrive, or together, so that no signal that one lets
/// through ends a wait of another; but one that waits in the kernel for what no signal ends keeps none of the others from their work.
/// </summary>
internal static class LettingGo
{
    /// <summary>Lets them go.</summary>
    /// <param name="threads">The threads, those first that are to go first: <see cref="TracingOrder"/>.</param>
    /// <param name="patience">
    /// For how long to wait for the last of them. Those that did not arrive go on when the calling thread ends, by the kernel, which needs them not to stand
    /// still for that.
    /// </param>
    /// <param name="together">For how long those that arrived wait for the others, but for one that waits in the kernel.</param>
    public static void All(IEnumerable<Tracee> threads, TimeSpan patience, TimeSpan together = default)
    {
        const int LooksBetweenChecks = 100;
        List<Tracee> remaining = [.. threads];
        List<Tracee> awaited = together > TimeSpan.Zero ? [.. remaining] : [];
        foreach (var thread in remaining)
            thread.RequestStop();
        var began = Stopwatch.GetTimestamp();
        for (var looks = 0; ; looks++)
        {
            var looksCloser = looks % LooksBetweenChecks == 0;
            awaited.RemoveAll(thread => thread.HoldsNobodyUp(looksCloser));
            if (awaited.Count == 0 || Stopwatch.GetElapsedTime(began) > together)
                remaining.RemoveAll(thread => thread.TryDetach(looksCloser));
            if (remaining.Count == 0 || Stopwatch.GetElapsedTime(began) > patience)
                return;
            Precedence.Pause(looks);
        }
    }
}
