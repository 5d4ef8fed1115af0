using System.Globalization;
using KvmTsc.Local;
using KvmTsc.Machines;

namespace KvmTsc.Discovery;

/// <summary>The VMs that can be worked on: those of this process first.</summary>
public static class VMCatalog
{
    /// <summary>All of them.</summary>
    public static IReadOnlyList<Machine> All => [.. LocalMachines.All, .. VMDiscovery.All()];

    /// <summary>The process in a VM's id, null if that is none.</summary>
    public static int? ProcessOf(string vmId) =>
        int.TryParse(vmId.Split(':')[0], NumberStyles.None, CultureInfo.InvariantCulture, out var processId) ? processId : null;
}
