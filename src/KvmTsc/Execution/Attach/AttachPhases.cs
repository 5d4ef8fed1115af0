namespace KvmTsc.Execution.Attach;

/// <summary>What a stop was spent on, in microseconds.</summary>
/// <param name="Stopping">From the first thread asked to stop to all standing still, one of them before the payload.</param>
/// <param name="Running">Running batches.</param>
/// <param name="Releasing">From there to the last thread let go.</param>
public sealed record AttachPhases(double Stopping, double Running, double Releasing)
{
    /// <summary>All of it.</summary>
    public double Total => Stopping + Running + Releasing;
}
