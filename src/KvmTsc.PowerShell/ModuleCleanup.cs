using System.Management.Automation;
using KvmTsc.Local;

namespace KvmTsc.PowerShell;

/// <summary>Removes the VMs of this process when the module goes.</summary>
public sealed class ModuleCleanup : IModuleAssemblyCleanup
{
    /// <inheritdoc/>
    public void OnRemove(PSModuleInfo psModuleInfo) => LocalMachines.Clear();
}
