namespace KvmTsc.Migration.Preflight;

/// <summary>Something that keeps a migration from working, or from being exact.</summary>
public sealed class KvmTscFinding
{
    /// <summary>Creates a finding from its values.</summary>
    public KvmTscFinding(FindingSeverity severity, MigrationSide side, string check, string evidence, string action)
    {
        Severity = severity;
        Side = side;
        Check = check;
        Evidence = evidence;
        Action = action;
    }

    /// <summary>What it means for the migration.</summary>
    public FindingSeverity Severity { get; }

    /// <summary>What was looked at; where the migration would be refused, the id of that error.</summary>
    public string Check { get; }

    /// <summary>Where it was found.</summary>
    public MigrationSide Side { get; }

    /// <summary>What was found.</summary>
    public string Evidence { get; }

    /// <summary>What can be done about it.</summary>
    public string Action { get; }

    /// <inheritdoc/>
    public override string ToString() => $"{Severity}: {Check} ({Side}): {Evidence} {Action}";
}
