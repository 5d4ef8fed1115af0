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

    /// <summary>VMs by name. A pattern fits any number, unless a VM has it for its name; a name has to be there.</summary>
    /// <param name="name">The name.</param>
    /// <param name="areChanged">Whether the VMs are to be changed: a name that several have names none of them then.</param>
    public IEnumerable<Machine> Named(string name, bool areChanged)
    {
        var all = All;
        var named = all.Where(machine => machine.Identity.IsNamed(name)).ToArray();
        if (named.Length > 1 && areChanged)
            throw Ambiguous(name, named);
        if (named.Length > 0)
            return named;
        var pattern = WildcardPattern.Get(name, WildcardOptions.IgnoreCase);
        return WildcardPattern.ContainsWildcardCharacters(name)
            ? [.. all.Where(machine => pattern.IsMatch(machine.Identity.Name))]
            : throw NotFound($"There is no VM named {name}.");
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
            // It keeps the name that it was listed by, which tells it from another one.
            [ProcessMachine machine] when string.Equals(reference.VMName, machine.Identity.NameWithProcess, StringComparison.OrdinalIgnoreCase) =>
                machine.Named(machine.Identity.NameWithProcess),
            [var machine] => machine,
            [] => throw NotFound($"There is no VM {reference}" + (reference.ProcessId is { } owner ? $" in process {owner}." : ".")),
            _ => throw Ambiguous(reference, found),
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
        && (reference.VMName is null || machine.Identity.IsNamed(reference.VMName));

    private static KvmException Ambiguous(object name, Machine[] found) => new(
        KvmErrorId.VMNotFound,
        $"{name} names {found.Length} VMs: {string.Join(", ", found.Select(machine => machine.Identity))}.",
        $"Name one by its process: {found[0].Identity.NameWithProcess}, or Get-KvmVM -ProcessId {found[0].Identity.ProcessId}.");

    private static KvmException NotFound(string message) => new(KvmErrorId.VMNotFound, message, "List the VMs there are with Get-KvmVM.");
}
