using System.Diagnostics;
using KvmTsc.Processes;

namespace KvmTsc.Execution.Attach;

/// <summary>
/// A process has one tracer. Another KvmTsc is there for some milliseconds, which are waited for: cmdlets and a watch that work on one VM take turns. One that
/// waits for a resume stays, as a debugger does, and the error tells.
/// </summary>
internal static class Turn
{
    /// <summary>Who is there for longer stays.</summary>
    private static readonly TimeSpan s_longestWork = TimeSpan.FromSeconds(1);

    /// <summary>For how long others that come and go are let go before us.</summary>
    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(30);

    private static readonly TimeSpan s_interval = TimeSpan.FromMilliseconds(5);

    /// <summary>Does something in a process that another tracer may be in the way of.</summary>
    public static T Await<T>(int processId, Func<T> begin, CancellationToken cancellationToken)
    {
        var (since, sinceChange) = (Stopwatch.StartNew(), Stopwatch.StartNew());
        for (int? last = null; ;)
        {
            try
            {
                return begin();
            }
            catch (KvmException exception) when (exception.ErrorId is KvmErrorId.BusyWithKvmTsc or KvmErrorId.AlreadyTraced)
            {
                var tracer = Tracer.Of(processId)?.ThreadId;
                if (tracer is null || tracer != last)
                    sinceChange.Restart();
                last = tracer;
                if (sinceChange.Elapsed > s_longestWork || since.Elapsed > s_patience)
                    throw;
                cancellationToken.WaitHandle.WaitOne(s_interval);
                cancellationToken.ThrowIfCancellationRequested();
            }
        }
    }
}
