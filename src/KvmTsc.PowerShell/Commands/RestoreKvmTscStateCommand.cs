using System.Management.Automation;
using KvmTsc.Clocks;
using KvmTsc.Discovery;
using KvmTsc.Machines;
using KvmTsc.Migration;
using KvmTsc.PowerShell.Binding;
using KvmTsc.PowerShell.Completion;

namespace KvmTsc.PowerShell.Commands;

/// <summary>Gives a VM the clocks of a captured state: steps 4 to 7 of the algorithm.</summary>
[Cmdlet(VerbsData.Restore, "KvmTscState", SupportsShouldProcess = true)]
[OutputType(typeof(KvmTscMigrationResult))]
public sealed class RestoreKvmTscStateCommand : RestoreCommand
{
    /// <summary>The VM to be restored: its name, or an object of Get-KvmVM.</summary>
    [Parameter(Mandatory = true, Position = 0)]
    [FromProperties(typeof(VMReference))]
    [ArgumentCompleter(typeof(VMNameCompleter))]
    [Alias("Name", "VMName", "Destination")]
    public VMReference VM { get; set; } = null!;

    /// <summary>The state, of Save-KvmTscState.</summary>
    [Parameter(Mandatory = true, Position = 1, ValueFromPipeline = true)]
    [FromProperties(typeof(KvmTscState))]
    public KvmTscState State { get; set; } = null!;

    /// <inheritdoc/>
    protected override void ProcessRecord() => For(VM, () =>
    {
        var machine = Complete(Targets.Single(VM));
        var restore = new TscRestore(machine, State, Options);
        if (!ShouldProcess(machine.Identity.ToString(), Question(restore, State.VMName)))
            return;
        var result = Restore(restore, machine.Identity.Name, ShowProgress);
        if (KvmGuestClocksAdvice.Concerns(machine, result.GuestClocks))
            WriteWarning($"{KvmGuestClocksAdvice.Unmoved(machine.Identity.Name)} {KvmGuestClocksAdvice.Action}");
        WriteObject(result);
    });

    /// <summary>With -AtResume, one that its VMM is still creating is waited for.</summary>
    private Machine Complete(Machine machine) => AtResume && machine is ProcessMachine created && created.IsIncomplete(State.Vcpus.Count)
        ? ShowWaiting(
            $"Waiting for {machine.Identity.Name} to be created", "created", ShowProgress, waiting => created.AwaitVcpus(State.Vcpus.Count, Timeout, waiting, Cancellation))
        : machine;
}
