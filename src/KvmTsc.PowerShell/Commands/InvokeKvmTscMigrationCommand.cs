using System.Management.Automation;
using KvmTsc.Migration;
using KvmTsc.PowerShell.Binding;
using KvmTsc.PowerShell.Completion;

namespace KvmTsc.PowerShell.Commands;

/// <summary>Migrates the clocks of a VM to another one: the whole algorithm, verified.</summary>
[Cmdlet(VerbsLifecycle.Invoke, "KvmTscMigration", SupportsShouldProcess = true, ConfirmImpact = ConfirmImpact.High)]
[OutputType(typeof(KvmTscMigrationResult))]
public sealed class InvokeKvmTscMigrationCommand : KvmCommand
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

    /// <summary>How offsets are found: exactly where possible, or as documented.</summary>
    [Parameter]
    public TscMethod Method { get; set; }

    /// <summary>Does not ask, and takes unequal offsets, clocks that go backwards, and frequencies that KVM can only chase.</summary>
    [Parameter]
    public SwitchParameter Force { get; set; }

    /// <inheritdoc/>
    protected override void ProcessRecord() => For(Destination, () =>
    {
        var source = Targets.Single(Source);
        var destination = Targets.Single(Destination);
        TscMigration.RequireTwo(source, destination);
        if (!Confirmed(source, destination))
            return;
        WriteObject(TscMigration.Run(source, destination, Method, Force, Cancellation));
    });

    private bool Confirmed(KvmTsc.Machines.Machine source, KvmTsc.Machines.Machine destination)
    {
        // -Force answers the question, but not -WhatIf and not an explicit -Confirm.
        var bound = MyInvocation.BoundParameters;
        if (Force && !bound.ContainsKey("WhatIf") && !bound.ContainsKey("Confirm") && !WhatIfIsPreferred)
            return true;
        var preview = new TscRestore(destination, KvmTscState.Save(source, Force, Cancellation), Method, Force).Preview(Cancellation);
        return ShouldProcess(destination.Identity.ToString(), Questions.Restore(preview, source.Identity.ToString()));
    }

    private bool WhatIfIsPreferred => LanguagePrimitives.IsTrue(GetVariableValue("WhatIfPreference"));
}
