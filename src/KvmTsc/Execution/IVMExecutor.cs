namespace KvmTsc.Execution;

/// <summary>
/// Where the ioctls of one VM run: in this process, in the process that owns the VM, or on a simulated host.
/// Everything above this seam is the same for all of them.
/// </summary>
public interface IVMExecutor
{
    /// <summary>
    /// Whether the VM would have ended with this process, had that died within the last stop: its VMM's own seccomp filter forbids what was done there.
    /// </summary>
    bool DeathIsLethal => false;

    /// <summary>Stops the VM's vCPUs outside of <c>KVM_RUN</c>, does something while they stand still, and lets them go on.</summary>
    /// <param name="work">What to do; it runs batches one after another, on whatever thread it is called.</param>
    /// <param name="cancellationToken">Gives up waiting for the stop; a stop that is had is not cancelled.</param>
    /// <param name="first">
    /// The batch that will be run first, where it is known, and will not change until then: all that can be is done for it before anything stops.
    /// </param>
    Stopped<T> WhileStopped<T>(Func<IVMStop, T> work, CancellationToken cancellationToken, IoctlBatch? first = null);

    /// <summary>The same for what has no result.</summary>
    /// <returns>For how long the VM was stopped, in microseconds.</returns>
    double WhileStopped(Action<IVMStop> work, CancellationToken cancellationToken, IoctlBatch? first = null) => WhileStopped(
        stop =>
        {
            work(stop);
            return true;
        },
        cancellationToken,
        first).Microseconds;
}
