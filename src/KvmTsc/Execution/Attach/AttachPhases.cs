namespace KvmTsc.Execution.Attach;

/// <summary>What a stop was spent on, in microseconds.</summary>
/// <param name="Waiting">From the first vCPU that was held at its resume to the last; 0 where a running VM was stopped.</param>
/// <param name="Stopping">From there, or from the first thread asked to stop, to all standing still, one of them before the payload.</param>
/// <param name="Running">Running batches.</param>
/// <param name="Releasing">From there to the last thread let go.</param>
public sealed record AttachPhases(double Waiting, double Stopping, double Running, double Releasing)
{
    /// <summary>All of it.</summary>
    public double Total => Waiting + Stopping + Running + Releasing;
}
