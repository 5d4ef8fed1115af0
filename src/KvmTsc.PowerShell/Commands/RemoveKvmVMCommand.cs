using System.Management.Automation;
using KvmTsc.Local;
using KvmTsc.Machines;

namespace KvmTsc.PowerShell.Commands;

/// <summary>Removes VMs of this process.</summary>
[Cmdlet(VerbsCommon.Remove, "KvmVM", DefaultParameterSetName = ByName, SupportsShouldProcess = true)]
public sealed class RemoveKvmVMCommand : VMCommand
{
    /// <inheritdoc/>
    protected override void Process(Machine machine)
    {
        if (machine is not LocalMachine local)
            throw NotOurs(machine);
        if (ShouldProcess(machine.Identity.ToString(), "Remove the VM"))
            LocalMachines.Remove(local);
    }

    private static KvmException NotOurs(Machine machine) => new(
        KvmErrorId.VMNotFound, $"{machine.Identity} is run by {machine.Vmm}, not by this process.", $"End it with the tools of {machine.Vmm}.");
}
