namespace KvmTsc.Execution.Attach;

/// <summary>Runs batches inside the process that owns the VM. docs/attach.md explains how, and why that is safe.</summary>
public sealed class AttachedExecutor(AttachTarget target) : IVMExecutor
{
    private const int MaximumTries = 20;

    /// <summary>What the last stop was spent on; null before the first.</summary>
    public AttachPhases? LastPhases { get; internal set; }

    /// <inheritdoc/>
    public bool DeathIsLethal { get; internal set; }

    /// <inheritdoc/>
    public Stopped<T> WhileStopped<T>(Func<IVMStop, T> work, CancellationToken cancellationToken, IoctlBatch? first = null)
    {
        AttachRehearsal.Once();
        return TracerThread.Run(ended => Do(work, Stop(first, ended)), static () => { }, cancellationToken);
    }

    /// <summary>
    /// Holds the VM at the moment when it is resumed, and does something: each vCPU at its first entry into <c>KVM_RUN</c>, after the VMM has restored
    /// what it restores.
    /// </summary>
    /// <param name="work">What to do.</param>
    /// <param name="timeout">How long to wait for it.</param>
    /// <param name="waiting">
    /// Told now and then, on the calling thread, for how long it has been waited, and how many vCPUs are held: not before the VM is in view, nor when it is
    /// let go. It may be told again after it has ended waiting, until that is noticed.
    /// </param>
    /// <param name="cancellationToken">Ends waiting.</param>
    /// <exception cref="KvmException">The VM was not resumed in time, or one cannot work in its process.</exception>
    public Stopped<T> WhileHeldAtResume<T>(Func<IVMStop, T> work, TimeSpan timeout, Action<TimeSpan, int> waiting, CancellationToken cancellationToken)
    {
        AttachRehearsal.Once();
        ResumeWatch? current = null;
        return TracerThread.Run(
            ended => Do(work, Turn.Await(target.ProcessId, () => Begin(ended), ended)),
            () =>
            {
                if (Volatile.Read(ref current) is { IsInView: true } watch)
                    waiting(watch.Waited, watch.HeldCount);
            },
            cancellationToken);

        AttachedStop Begin(CancellationToken ended)
        {
            var preparation = AttachPreparation.Of(target);
            ResumeWatch? watch = null;
            try
            {
                Volatile.Write(ref current, watch = new ResumeWatch(preparation));
                watch.Await(timeout, ended);
                return AttachedStop.Of(this, preparation, watch);
            }
            catch
            {
                watch?.Dispose();
                preparation.Dispose();
                throw;
            }
        }
    }

    /// <summary>Whether a resume can be waited for by watching no threads but those that will run vCPUs: it slows nothing else then.</summary>
    /// <exception cref="KvmException">One cannot work in this process.</exception>
    public bool KnowsVcpuThreads()
    {
        using var preparation = Turn.Await(target.ProcessId, () => AttachPreparation.Of(target), CancellationToken.None);
        return preparation.FindVcpuThreads().Count > 0;
    }

    private static Stopped<T> Do<T>(Func<IVMStop, T> work, AttachedStop stop)
    {
        T result;
        using (stop)
            result = work(stop);
        return new Stopped<T>(result, stop.StoppedMicroseconds);
    }

    private AttachedStop Stop(IoctlBatch? first, CancellationToken cancellationToken)
    {
        for (var tries = 1; tries <= MaximumTries; tries++)
        {
            cancellationToken.ThrowIfCancellationRequested();
            if (Turn.Await(target.ProcessId, () => AttachedStop.TryStop(this, AttachPreparation.Of(target), first), cancellationToken) is { } stop)
                return stop;
        }

        throw AttachErrors.Failed($"No thread of {target.VMName} (process {target.ProcessId}) could be borrowed in {MaximumTries} tries.");
    }
}
