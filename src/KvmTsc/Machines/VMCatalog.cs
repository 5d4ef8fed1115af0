namespace KvmTsc.Machines;

/// <summary>The VMs that can be worked on.</summary>
public static class VMCatalog
{
    /// <summary>All of them.</summary>
    public static IReadOnlyList<Machine> All => LocalMachines.All;
}
