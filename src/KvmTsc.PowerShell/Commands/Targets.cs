using System.Management.Automation;
using KvmTsc.Machines;
using KvmTsc.PowerShell.Binding;

namespace KvmTsc.PowerShell.Commands;

/// <summary>Finds the VMs that parameters name.</summary>
internal static class Targets
{
    /// <summary>VMs by name; a name without wildcards has to be there.</summary>
    public static IEnumerable<Machine> Named(string name)
    {
        var pattern = WildcardPattern.Get(name, WildcardOptions.IgnoreCase);
        var found = VMCatalog.All.Where(machine => pattern.IsMatch(machine.Identity.Name)).ToArray();
        return found.Length > 0 || WildcardPattern.ContainsWildcardCharacters(name) ? found : throw NotFound($"There is no VM named {name}.");
    }

    /// <summary>The VMs of a process.</summary>
    public static IEnumerable<Machine> Of(int processId)
    {
        var found = VMCatalog.All.Where(machine => machine.Identity.ProcessId == processId).ToArray();
        return found.Length > 0 ? found : throw NotFound($"Process {processId} runs no VM.");
    }

    /// <summary>The one VM that is referred to.</summary>
    public static Machine Single(VMReference reference)
    {
        var found = VMCatalog.All.Where(machine => Fits(machine.Identity, reference)).ToArray();
        return found switch
        {
            [var machine] => machine,
            [] => throw NotFound($"There is no VM {reference}" + (reference.ProcessId is { } id ? $" in process {id}." : ".")),
            _ => throw new KvmException(
                KvmErrorId.VMNotFound,
                $"{reference} names {found.Length} VMs: {string.Join(", ", found.Select(machine => machine.Identity))}.",
                "Name one by its process: Get-KvmVM -ProcessId ID."),
        };
    }

    private static bool Fits(VMIdentity identity, VMReference reference) =>
        (reference.VMId is null || reference.VMId == identity.Id)
        && (reference.ProcessId is null || reference.ProcessId == identity.ProcessId)
        && (reference.VMName is null || string.Equals(reference.VMName, identity.Name, StringComparison.OrdinalIgnoreCase));

    private static KvmException NotFound(string message) => new(KvmErrorId.VMNotFound, message, "List the VMs there are with Get-KvmVM.");
}
