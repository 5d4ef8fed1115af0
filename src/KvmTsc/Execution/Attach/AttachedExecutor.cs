namespace KvmTsc.Execution.Attach;

/// <summary>Runs batches inside the process that owns the VM. docs/attach.md explains how, and why that is safe.</summary>
public sealed class AttachedExecutor(AttachTarget target) : IVMExecutor
{
    private const int MaximumTries = 20;

    /// <summary>What the last stop was spent on; null before the first.</summary>
    public AttachPhases? LastPhases { get; internal set; }

    /// <inheritdoc/>
    public IVMStop Stop(CancellationToken cancellationToken)
    {
        AttachRehearsal.Once();
        for (var tries = 1; ; tries++)
        {
            cancellationToken.ThrowIfCancellationRequested();
            var preparation = AttachPreparation.Of(target);
            try
            {
                if (AttachedStop.TryStop(this, preparation) is { } stop)
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
}
