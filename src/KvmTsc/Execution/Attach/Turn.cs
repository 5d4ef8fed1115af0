using System.Diagnostics;

namespace KvmTsc.Execution.Attach;

/// <summary>
/// A process has one tracer. Another KvmTsc is there for some milliseconds, which are waited for: cmdlets and a watch that work on one VM take turns. One that
/// waits for a resume stays, as a debugger does, and the error tells.
/// </summary>
internal static class Turn
{
    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(1);

    private static readonly TimeSpan s_interval = TimeSpan.FromMilliseconds(5);

    /// <summary>Does something that another tracer may be in the way of.</summary>
    public static T Await<T>(Func<T> begin, CancellationToken cancellationToken)
    {
        for (var clock = Stopwatch.StartNew(); ;)
        {
            try
            {
                return begin();
            }
            catch (KvmException exception) when (exception.ErrorId is KvmErrorId.BusyWithKvmTsc or KvmErrorId.AlreadyTraced && clock.Elapsed < s_patience)
            {
                cancellationToken.WaitHandle.WaitOne(s_interval);
                cancellationToken.ThrowIfCancellationRequested();
            }
        }
    }
}
