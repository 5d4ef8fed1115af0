using System.Runtime.ExceptionServices;

namespace KvmTsc.Execution.Attach;

/// <summary>
/// Runs something on an OS thread of its own from beginning to end, which is what ptrace asks for when it takes long: the caller can
/// go on doing other things, such as showing progress.
/// </summary>
public static class TracerThread
{
    /// <summary>Runs it, and meanwhile calls the caller back on the caller's own thread, about ten times a second.</summary>
    public static T Run<T>(Func<T> work, Action meanwhile)
    {
        T result = default!;
        ExceptionDispatchInfo? failure = null;
        var thread = new Thread(() =>
        {
            try
            {
                result = work();
            }
            catch (Exception exception)
            {
                failure = ExceptionDispatchInfo.Capture(exception);
            }
        })
        {
            IsBackground = true,
            Name = "KvmTsc tracer",
        };
        thread.Start();
        try
        {
            while (!thread.Join(TimeSpan.FromMilliseconds(100)))
                meanwhile();
        }
        finally
        {
            thread.Join();
        }

        failure?.Throw();
        return result;
    }
}
