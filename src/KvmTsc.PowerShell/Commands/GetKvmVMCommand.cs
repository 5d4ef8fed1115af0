using System.Management.Automation;
using KvmTsc.Discovery;
using KvmTsc.Machines;
using KvmTsc.PowerShell.Completion;
using KvmTsc.Processes;

namespace KvmTsc.PowerShell.Commands;

/// <summary>Lists VMs.</summary>
[Cmdlet(VerbsCommon.Get, "KvmVM", DefaultParameterSetName = "Name")]
[OutputType(typeof(KvmVM))]
public sealed class GetKvmVMCommand : KvmCommand
{
    /// <summary>Names of VMs, with wildcards; all if none are given.</summary>
    [Parameter(Position = 0, ParameterSetName = "Name")]
    [ValidateNotNullOrEmpty]
    [SupportsWildcards]
    [ArgumentCompleter(typeof(VMNameCompleter))]
    [Alias("VMName")]
    public string[] Name { get; set; } = ["*"];

    /// <summary>Processes that run VMs.</summary>
    [Parameter(Mandatory = true, ParameterSetName = "ProcessId")]
    [ArgumentCompleter(typeof(ProcessIdCompleter))]
    public int[] ProcessId { get; set; } = [];

    /// <inheritdoc/>
    protected override void ProcessRecord()
    {
        if (ParameterSetName == "ProcessId")
            Write(ProcessId, Targets.Of);
        else
            Write(Name, name => Targets.Named(name, areChanged: false));
    }

    /// <inheritdoc/>
    protected override void EndProcessing()
    {
        if (ParameterSetName != "ProcessId" && VMDiscovery.Unseen() is { Count: > 0 } unseen)
            WriteWarning($"The VMs of {unseen.Count} VMM(s) are not listed, since this user may not look at them: process {string.Join(", ", unseen)}. Run PowerShell as root (sudo pwsh).");
    }

    private void Write<T>(IEnumerable<T> selectors, Func<T, IEnumerable<Machine>> select)
    {
        var written = new HashSet<string>();
        var rights = OwnRights.Read();
        foreach (var selector in selectors)
        {
            For(selector, () =>
            {
                foreach (var machine in select(selector).Where(machine => written.Add(machine.Identity.Id)))
                    WriteObject(new KvmVM(machine, rights));
            });
        }
    }
}
