namespace KvmTsc.Execution;

/// <summary>A VM whose vCPUs stand still.</summary>
public interface IVMStop
{
    /// <summary>
    /// Runs a batch to its end or to its first failure; on failure it undoes what the batch did.
    /// </summary>
    /// <returns>How it went; results are in the batch.</returns>
    BatchOutcome Run(IoctlBatch batch);
}
