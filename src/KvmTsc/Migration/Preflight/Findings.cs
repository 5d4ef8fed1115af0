namespace KvmTsc.Migration.Preflight;

/// <summary>What a preflight has found so far.</summary>
/// <param name="force">Whether the migration is to be forced.</param>
internal sealed class Findings(bool force)
{
    private readonly List<KvmTscFinding> _all = [];

    public IReadOnlyList<KvmTscFinding> All => _all;

    /// <summary>The first refusal that stands.</summary>
    public KvmException? FirstError { get; private set; }

    public void Add(FindingSeverity severity, MigrationSide side, string check, string evidence, string action) =>
        _all.Add(new KvmTscFinding(severity, side, check, evidence, action));

    /// <summary>Tries a rule. One that only force lifts is an error without, and a warning with it.</summary>
    /// <returns>Whether it refused nothing.</returns>
    public bool Obeys(MigrationSide side, Action<bool> rule)
    {
        if (RefusalOf(() => rule(false)) is not { } refusal)
            return true;
        Add(side, refusal, isLifted: force && RefusalOf(() => rule(true)) is null);
        return false;
    }

    /// <summary>Tries something that force does not help.</summary>
    /// <returns>Whether it succeeded.</returns>
    public bool Succeeds(MigrationSide side, Action action)
    {
        if (RefusalOf(action) is not { } refusal)
            return true;
        Add(side, refusal, isLifted: false);
        return false;
    }

    private void Add(MigrationSide side, KvmException refusal, bool isLifted)
    {
        if (!isLifted)
            FirstError ??= refusal;
        Add(isLifted ? FindingSeverity.Warning : FindingSeverity.Error, side, refusal.ErrorId.ToString(), refusal.Message, refusal.RecommendedAction);
    }

    private static KvmException? RefusalOf(Action action)
    {
        try
        {
            action();
            return null;
        }
        catch (KvmException exception)
        {
            return exception;
        }
    }
}
