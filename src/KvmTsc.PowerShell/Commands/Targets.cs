using System.Management.Automation;
using KvmTsc.Discovery;
using KvmTsc.Local;
using KvmTsc.Machines;
using KvmTsc.PowerShell.Binding;

namespace KvmTsc.PowerShell.Commands;

/// <summary>
/// Finds the VMs that the parameters of one command name. The processes of the host are looked through once at most, and only where a
/// VM is named without its process. The VMs of this process may come and go meanwhile.
/// </summary>
internal sealed class Targets
{
    private readonly Dictionary<int, IReadOnlyList<Machine>> _ofProcess = [];
    private IReadOnlyList<Machine>? _ofOthers;

    private IReadOnlyList<Machine> All => [.. LocalMachines.All, .. _ofOthers ??= VMDiscovery.All()];

    /// <summary>VMs by name; a name without wildcards has to be there.</summary>
    public IEnumerable<Machine> Named(string name)
    {
        var pattern = WildcardPattern.Get(name, WildcardOptions.IgnoreCase);
        var found = All.Where(machine => pattern.IsMatch(machine.Identity.Name) || IsNamed(machine, name)).ToArray();
        return found.Length > 0 || WildcardPattern.ContainsWildcardCharacters(name) ? found : throw NotFound($"There is no VM named {name}.");
    }

    /// <summary>The VMs of a process.</summary>
    public IEnumerable<Machine> Of(int processId)
    {
        var found = InProcess(processId);
        return found.Count > 0 ? found : throw NotFound($"Process {processId} runs no VM.");
    }

    /// <summary>The one VM that is referred to.</summary>
    public Machine Single(VMReference reference)
    {
        var processId = reference.ProcessId ?? (reference.VMId is { } id ? VMCatalog.ProcessOf(id) : null);
        var found = (processId is { } process ? InProcess(process) : All).Where(machine => Fits(machine, reference)).ToArray();
        return found switch
        {
            [var machine] => machine,
            [] => throw NotFound($"There is no VM {reference}" + (reference.ProcessId is { } owner ? $" in process {owner}." : ".")),
            _ => throw new KvmException(
                KvmErrorId.VMNotFound,
                $"{reference} names {found.Length} VMs: {string.Join(", ", found.Select(machine => machine.Identity))}.",
                "Name one by its process: Get-KvmVM -ProcessId ID."),
        };
    }

    private IReadOnlyList<Machine> InProcess(int processId)
    {
        if (processId == Environment.ProcessId)
            return LocalMachines.All;
        if (!_ofProcess.TryGetValue(processId, out var machines))
            _ofProcess.Add(processId, machines = VMDiscovery.Of(processId));
        return machines;
    }

    private static bool Fits(Machine machine, VMReference reference) =>
        (reference.VMId is null || reference.VMId == machine.Identity.Id)
        && (reference.ProcessId is null || reference.ProcessId == machine.Identity.ProcessId)
        && (reference.VMName is null || IsNamed(machine, reference.VMName));

    private static bool IsNamed(Machine machine, string name) => string.Equals(name, machine.Identity.Name, StringComparison.OrdinalIgnoreCase);

    private static KvmException NotFound(string message) => new(KvmErrorId.VMNotFound, message, "List the VMs there are with Get-KvmVM.");
}
