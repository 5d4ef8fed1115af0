namespace KvmTsc.Execution;

/// <summary>A VM whose vCPUs stand still. Disposing of it lets them go on.</summary>
public interface IVMStop : IDisposable
{
    /// <summary>
    /// Runs a batch to its end or to its first failure; on failure it undoes what the batch did.
    /// </summary>
    /// <returns>How it went; results are in the batch.</returns>
    BatchOutcome Run(IoctlBatch batch);

    /// <summary>
    /// For how long a running VMM was stopped, in microseconds: known once disposed of, 0 where nothing had to be stopped.
    /// </summary>
    double StoppedMicroseconds { get; }
}
