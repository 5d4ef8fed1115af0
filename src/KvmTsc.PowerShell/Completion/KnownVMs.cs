using KvmTsc.Discovery;
using KvmTsc.Machines;

namespace KvmTsc.PowerShell.Completion;

/// <summary>The VMs that Tab offers.</summary>
internal static class KnownVMs
{
    /// <summary>All VMs; none where they cannot be listed, since an error would only break the line that is being typed.</summary>
    public static IReadOnlyList<Machine> All
    {
        get
        {
            try
            {
                return VMCatalog.All;
            }
            catch (KvmException)
            {
                return [];
            }
        }
    }
}
