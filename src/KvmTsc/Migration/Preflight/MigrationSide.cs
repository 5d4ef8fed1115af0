namespace KvmTsc.Migration.Preflight;

/// <summary>Where something was found.</summary>
public enum MigrationSide
{
    /// <summary>The VM or state whose clocks are taken, and its host.</summary>
    Source,

    /// <summary>The VM that gets them, and its host.</summary>
    Destination,

    /// <summary>What one is to the other.</summary>
    Both,
}
