using System.Diagnostics;

namespace KvmTsc.Execution.Attach;

/// <summary>
/// Lets many threads go. Each has to stand still for that: all are asked to at once, and go on in the order in which they arrive, so that one that waits in
/// the kernel for what no signal ends keeps none of the others from their work.
/// </summary>
internal static class LettingGo
{
    /// <summary>Lets them go.</summary>
    /// <param name="threads">The threads.</param>
    /// <param name="patience">
    /// For how long to wait for the last of them; null if as long as it takes. Those that did not arrive go on when the calling thread ends, by the
    /// kernel, which needs them not to stand still for that.
    /// </param>
    public static void All(IEnumerable<Tracee> threads, TimeSpan? patience = null)
    {
        const int LooksBetweenChecks = 100;
        List<Tracee> remaining = [.. threads];
        foreach (var thread in remaining)
            thread.RequestStop();
        var began = Stopwatch.GetTimestamp();
        for (var looks = 0; ; looks++)
        {
            remaining.RemoveAll(thread => thread.TryDetach(looks % LooksBetweenChecks == 0));
            if (remaining.Count == 0 || Stopwatch.GetElapsedTime(began) > patience)
                return;
            Precedence.Pause(looks);
        }
    }
}
