namespace KvmTsc.Execution.Attach;

/// <summary>Runs batches inside the process that owns the VM. docs/attach.md explains how, and why that is safe.</summary>
public sealed class AttachedExecutor(AttachTarget target) : IVMExecutor
{
    private const int MaximumTries = 20;

    /// <summary>What the last stop was spent on; null before the first.</summary>
    public AttachPhases? LastPhases { get; internal set; }

    /// <inheritdoc/>
    public IVMStop Stop(CancellationToken cancellationToken, IoctlBatch? first = null)
    {
        AttachRehearsal.Once();
        for (var tries = 1; ; tries++)
        {
            cancellationToken.ThrowIfCancellationRequested();
            var preparation = AttachPreparation.Of(target);
            try
            {
                if (AttachedStop.TryStop(this, preparation, first) is { } stop)
                    return stop;
            }
            catch
            {
                preparation.Dispose();
                throw;
            }

            preparation.Dispose();
            if (tries == MaximumTries)
                throw AttachErrors.Failed($"No thread of {target.VMName} (process {target.ProcessId}) could be borrowed in {tries} tries.");
        }
    }

    /// <summary>
    /// Stops the VM at the moment when it is resumed: each vCPU at its first entry into <c>KVM_RUN</c>, after the VMM has restored what it
    /// restores. The calling thread must have created no process, and end soon after: use <see cref="TracerThread"/>.
    /// </summary>
    /// <param name="timeout">How long to wait for it.</param>
    /// <param name="waiting">Told now and then for how long it has been waited, and how many vCPUs are held.</param>
    /// <param name="cancellationToken">Ends waiting.</param>
    /// <exception cref="KvmException">The VM was not resumed in time, or one cannot work in its process.</exception>
    public IVMStop StopAtResume(TimeSpan timeout, Action<TimeSpan, int> waiting, CancellationToken cancellationToken)
    {
        AttachRehearsal.Once();
        var preparation = AttachPreparation.Of(target);
        var watch = new ResumeWatch(preparation);
        try
        {
            watch.Await(timeout, waiting, cancellationToken);
            return AttachedStop.Of(this, preparation, watch);
        }
        catch
        {
            watch.Dispose();
            preparation.Dispose();
            throw;
        }
    }
}
