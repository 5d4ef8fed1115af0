using System.Diagnostics;
using KvmTsc.Execution;

namespace KvmTsc.Torture;

/// <summary>
/// Watches an executor: notes what is being done where another process can read it, measures how long writing takes, and calls back
/// just before it.
/// </summary>
internal sealed class WatchedExecutor(IVMExecutor executor, Action<KillPhase> note) : IVMExecutor
{
    /// <summary>How long the last batch that writes took.</summary>
    public TimeSpan Writing { get; private set; }

    /// <summary>Called before a batch that writes.</summary>
    public Action? BeforeWriting { get; set; }

    public Stopped<T> WhileStopped<T>(Func<IVMStop, T> work, CancellationToken cancellationToken, IoctlBatch? first = null)
    {
        note(KillPhase.Stopping);
        var stopped = executor.WhileStopped(
            stop =>
            {
                note(KillPhase.Stopped);
                var result = work(new WatchedStop(stop, this, note));
                note(KillPhase.Releasing);
                return result;
            },
            cancellationToken,
            first);
        note(KillPhase.Between);
        return stopped;
    }

    private sealed class WatchedStop(IVMStop stop, WatchedExecutor owner, Action<KillPhase> note) : IVMStop
    {
        public BatchOutcome Run(IoctlBatch batch)
        {
            // What can be undone is what writes.
            var writes = batch.Undo.Count > 0;
            if (writes)
                owner.BeforeWriting?.Invoke();
            var began = Stopwatch.GetTimestamp();
            note(writes ? KillPhase.Writing : KillPhase.Reading);
            var outcome = stop.Run(batch);
            note(KillPhase.Stopped);
            if (writes)
                owner.Writing = Stopwatch.GetElapsedTime(began);
            return outcome;
        }
    }
}
