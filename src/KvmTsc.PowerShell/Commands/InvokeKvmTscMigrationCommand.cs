using System.Management.Automation;
using KvmTsc.Machines;
using KvmTsc.Migration;
using KvmTsc.Migration.Preflight;
using KvmTsc.PowerShell.Binding;
using KvmTsc.PowerShell.Completion;

namespace KvmTsc.PowerShell.Commands;

/// <summary>Migrates the clocks of a VM to another one: the whole algorithm, verified.</summary>
[Cmdlet(VerbsLifecycle.Invoke, "KvmTscMigration", SupportsShouldProcess = true, ConfirmImpact = ConfirmImpact.High)]
[OutputType(typeof(KvmTscMigrationResult))]
public sealed class InvokeKvmTscMigrationCommand : RestoreCommand
{
    /// <summary>The VM whose clocks are taken: its name, or an object of Get-KvmVM.</summary>
    [Parameter(Mandatory = true, Position = 0, ValueFromPipelineByPropertyName = true)]
    [FromProperties(typeof(VMReference))]
    [ArgumentCompleter(typeof(VMNameCompleter))]
    public VMReference Source { get; set; } = null!;

    /// <summary>The VM that gets them.</summary>
    [Parameter(Mandatory = true, Position = 1, ValueFromPipelineByPropertyName = true)]
    [FromProperties(typeof(VMReference))]
    [ArgumentCompleter(typeof(VMNameCompleter))]
    public VMReference Destination { get; set; } = null!;

    /// <inheritdoc/>
    protected override void ProcessRecord() => For(Destination, () =>
    {
        var source = Targets.Single(Source);
        var destination = Targets.Single(Destination);
        TscMigration.RequireTwo(source, destination);
        var restore = new TscRestore(destination, Preflight(source, destination).Require(), Options);
        if (Confirmed(restore, source, destination))
            WriteObject(Restore(restore, destination.Identity.Name));
    });

    /// <summary>Stops the source once. The destination's clocks are looked at when the question is asked, and when they are restored.</summary>
    private TscPreflight Preflight(Machine source, Machine destination)
    {
        var preflight = TscPreflight.Run(source, destination, new TscPreflightOptions { Force = Force, Downtime = Downtime, LeavesDestinationAlone = true }, Cancellation);
        foreach (var finding in preflight.Result.Findings.Where(finding => finding.Severity == FindingSeverity.Warning))
            WriteWarning($"{finding.Evidence} {finding.Action}");
        return preflight;
    }

    private bool Confirmed(TscRestore restore, Machine source, Machine destination)
    {
        // -Force answers the question, but not -WhatIf and not an explicit -Confirm.
        var bound = MyInvocation.BoundParameters;
        return (Force && !bound.ContainsKey("WhatIf") && !bound.ContainsKey("Confirm") && !WhatIfIsPreferred)
            || ShouldProcess(destination.Identity.ToString(), Question(restore, source.Identity.ToString()));
    }

    private bool WhatIfIsPreferred => LanguagePrimitives.IsTrue(GetVariableValue("WhatIfPreference"));
}
