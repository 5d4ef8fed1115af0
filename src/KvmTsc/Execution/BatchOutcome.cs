namespace KvmTsc.Execution;

/// <summary>How a batch went.</summary>
/// <param name="FailedStep">The index of the step that failed, null if none did.</param>
/// <param name="ErrorNumber">Its errno, 0 for an expectation that did not hold.</param>
/// <param name="UndoFailures">The indices of the undo steps that failed too.</param>
public sealed record BatchOutcome(int? FailedStep, int ErrorNumber, IReadOnlyList<int> UndoFailures)
{
    /// <summary>Every step was done.</summary>
    public static BatchOutcome Done { get; } = new(null, 0, []);

    /// <summary>Whether every step was done.</summary>
    public bool Succeeded => FailedStep is null;
}
