using System.Management.Automation;
using System.Reflection;
using KvmTsc.Machines;
using KvmTsc.PowerShell.Binding;
using KvmTsc.PowerShell.Completion;

namespace KvmTsc.PowerShell.Commands;

/// <summary>A command on VMs, which are named, or come down the pipeline.</summary>
public abstract class VMCommand : KvmCommand
{
    /// <summary>The parameter set that selects by name.</summary>
    protected const string ByName = "Name";

    /// <summary>The parameter set that selects by process.</summary>
    protected const string ByProcessId = "ProcessId";

    /// <summary>The parameter set that takes VMs.</summary>
    protected const string ByVM = "VM";

    /// <summary>Names of VMs, with wildcards.</summary>
    [Parameter(Mandatory = true, Position = 0, ParameterSetName = ByName)]
    [ValidateNotNullOrEmpty]
    [SupportsWildcards]
    [ArgumentCompleter(typeof(VMNameCompleter))]
    [Alias("VMName")]
    public string[] Name { get; set; } = [];

    /// <summary>Processes that run VMs.</summary>
    [Parameter(Mandatory = true, ParameterSetName = ByProcessId)]
    [ArgumentCompleter(typeof(ProcessIdCompleter))]
    public int[] ProcessId { get; set; } = [];

    /// <summary>VMs: objects of Get-KvmVM, or any that carry VMName and ProcessId.</summary>
    [Parameter(Mandatory = true, ValueFromPipeline = true, ParameterSetName = ByVM)]
    [ValidateNotNullOrEmpty]
    [FromProperties(typeof(VMReference))]
    [ArgumentCompleter(typeof(VMNameCompleter))]
    public VMReference[] VM { get; set; } = [];

    private bool Changes => GetType().GetCustomAttribute<CmdletAttribute>()!.SupportsShouldProcess;

    /// <summary>Does the command's work for one VM.</summary>
    protected abstract void Process(Machine machine);

    /// <inheritdoc/>
    protected override void ProcessRecord()
    {
        switch (ParameterSetName)
        {
            case ByProcessId:
                ForEach(ProcessId, Targets.Of);
                break;
            case ByVM:
                ForEach(VM, reference => [Targets.Single(reference)]);
                break;
            default:
                ForEach(Name, name => Targets.Named(name, areChanged: Changes));
                break;
        }
    }

    private void ForEach<T>(IEnumerable<T> selectors, Func<T, IEnumerable<Machine>> select)
    {
        foreach (var selector in selectors)
        {
            For(selector, () =>
            {
                foreach (var machine in select(selector))
                    For(machine.Identity.Name, () => Process(machine));
            });
        }
    }
}
