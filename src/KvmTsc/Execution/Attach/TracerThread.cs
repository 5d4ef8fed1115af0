using System.Runtime.ExceptionServices;
using KvmTsc.Processes;

namespace KvmTsc.Execution.Attach;

/// <summary>
/// Runs something on an OS thread of its own from beginning to end. What a thread traces belongs to it: whatever it could not let go, since that came to
/// no stop, the kernel lets go when it ends. And the caller can do other things meanwhile, such as showing progress.
/// </summary>
internal static class TracerThread
{
    private static readonly TimeSpan s_interval = TimeSpan.FromMilliseconds(100);

    /// <summary>Runs it, and meanwhile calls the caller back on the caller's own thread, about ten times a second.</summary>
    /// <param name="work">What to run. Its token is cancelled with the caller's, or where calling back fails.</param>
    /// <param name="meanwhile">Called back.</param>
    /// <param name="cancellationToken">The caller's.</param>
    public static T Run<T>(Func<CancellationToken, T> work, Action meanwhile, CancellationToken cancellationToken)
    {
        T result = default!;
        ExceptionDispatchInfo? failure = null;
        using var ended = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        using var runs = new KeptRunning();
        var thread = new Thread(() =>
        {
            try
            {
                result = work(ended.Token);
            }
            catch (Exception exception)
            {
                failure = ExceptionDispatchInfo.Capture(exception);
            }
        })
        {
            IsBackground = true,
            Name = Tracer.OfKvmTsc,
        };
        thread.Start();
        try
        {
            while (!thread.Join(s_interval))
            {
                runs.Extend();
                meanwhile();
            }
        }
        catch
        {
            ended.Cancel();
            throw;
        }
        finally
        {
            thread.Join();
        }

        failure?.Throw();
        return result;
    }
}
