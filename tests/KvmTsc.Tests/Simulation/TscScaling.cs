namespace KvmTsc.Tests.Simulation;

/// <summary>What the CPU of a simulated host scales guest TSCs with.</summary>
internal enum TscScaling
{
    None,
    Intel,
    Amd,
}
