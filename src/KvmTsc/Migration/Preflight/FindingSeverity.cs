namespace KvmTsc.Migration.Preflight;

/// <summary>What a finding means for a migration.</summary>
public enum FindingSeverity
{
    /// <summary>Good to know.</summary>
    Information,

    /// <summary>The migration will be done, and less exact than it could be.</summary>
    Warning,

    /// <summary>The migration will be refused, or fail.</summary>
    Error,
}
