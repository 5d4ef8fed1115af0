using System.Management.Automation;
using System.Management.Automation.Runspaces;
using KvmTsc.Migration;
using KvmTsc.Migration.Preflight;
using KvmTsc.PowerShell.Binding;
using KvmTsc.PowerShell.Completion;
using KvmTsc.PowerShell.Errors;
using KvmTsc.PowerShell.Remoting;
using KvmTsc.PowerShell.Wording;

namespace KvmTsc.PowerShell.Commands;

/// <summary>Migrates the clocks of a VM to another one, here or on other hosts: the whole algorithm, verified.</summary>
[Cmdlet(VerbsLifecycle.Invoke, "KvmTscMigration", SupportsShouldProcess = true, ConfirmImpact = ConfirmImpact.High)]
[OutputType(typeof(KvmTscMigrationResult))]
public sealed class InvokeKvmTscMigrationCommand : RestoreCommand
{
    private readonly List<(MigrationTarget Target, Task<object> Restoring)> _running = [];

    /// <summary>What the clocks are taken from: a VM, by its name or an object of Get-KvmVM, or a state of Save-KvmTscState.</summary>
    [Parameter(Mandatory = true, Position = 0, ValueFromPipelineByPropertyName = true)]
    [ValidateNotNull]
    [Source]
    [ArgumentCompleter(typeof(VMNameCompleter))]
    [Alias("State")]
    public object Source { get; set; } = null!;

    /// <summary>The VM that gets them.</summary>
    [Parameter(Mandatory = true, Position = 1, ValueFromPipelineByPropertyName = true)]
    [FromProperties(typeof(VMReference))]
    [ArgumentCompleter(typeof(VMNameCompleter))]
    public VMReference Destination { get; set; } = null!;

    /// <summary>A session on the host that runs the source; this host if none is given.</summary>
    [Parameter(ValueFromPipelineByPropertyName = true)]
    public PSSession? SourceSession { get; set; }

    /// <summary>A session on the host that runs the destination; this host if none is given.</summary>
    [Parameter(ValueFromPipelineByPropertyName = true)]
    public PSSession? DestinationSession { get; set; }

    /// <summary>How many destinations are restored, or waited for, at once.</summary>
    [Parameter]
    [ValidateRange(1, 1000)]
    public int ThrottleLimit { get; set; } = 1;

    private MigrationSource From => new(Source, SourceSession, Targets, ShowProgress, Cancellation);

    private MigrationTarget Target => new(Destination, DestinationSession?.ComputerName);

    private bool WhatIfIsPreferred => LanguagePrimitives.IsTrue(GetVariableValue("WhatIfPreference"));

    /// <inheritdoc/>
    protected override void ProcessRecord() => For(Target, () =>
    {
        // A source that is captured then need not wait for its turn.
        while (_running.Count >= ThrottleLimit)
            WriteNext();
        var restore = DestinationSession is null ? PrepareHere() : PrepareThere(new RemoteHost(DestinationSession));
        if (restore is null)
            return;
        if (ThrottleLimit == 1)
        {
            WriteObject(restore(ShowProgress));
            return;
        }

        _running.Add((Target, Task.Factory.StartNew(
            () => restore(_ => { }), CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default)));
    });

    /// <inheritdoc/>
    protected override void EndProcessing()
    {
        while (_running.Count > 0)
            WriteNext();
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        // After Ctrl+C too, nobody is left held.
        ((IAsyncResult)Task.WhenAll(_running.Select(running => running.Restoring))).AsyncWaitHandle.WaitOne();
        base.Dispose(disposing);
    }

    private void WriteNext()
    {
        var index = Task.WaitAny([.. _running.Select(running => (Task)running.Restoring)]);
        var (target, restoring) = _running[index];
        _running.RemoveAt(index);
        For(target, () => WriteObject(restoring.GetAwaiter().GetResult()));
    }

    private TscPreflightOptions PreflightOptions => new()
    {
        Restore = Options,
        Clocks = Downtime == TscDowntime.Count ? From.CompareClocks(DestinationSession) : null,
        LeavesDestinationAlone = true, // its clocks are looked at when they are restored
    };

    /// <summary>All up to the restore: captures the source, looks whether the migration would work, and asks.</summary>
    private Func<Action<ProgressRecord>, object>? PrepareHere()
    {
        var destination = Targets.Single(Destination);
        var preflight = From.Preflight(destination, PreflightOptions);
        Warn(preflight.Result.Findings, "");
        var restore = new TscRestore(destination, preflight.Require(), Options);
        return IsConfirmed(destination.Identity.ToString(), () => Question(restore, From.Name))
            ? show => Restore(restore, destination.Identity.Name, show)
            : null;
    }

    /// <summary>The same, on another host.</summary>
    private Func<Action<ProgressRecord>, object>? PrepareThere(RemoteHost host)
    {
        var state = From.Capture(Force);
        var (destination, options) = (Destination, Options);
        var preflight = RemoteCommands.Test(host, state, destination, PreflightOptions, ShowProgress, Cancellation);
        Warn(preflight.Findings, $"{host.Name}: ");
        preflight.Require();
        return IsConfirmed($"{destination} on {host.Name}", () => Questions.RestoreThere(state, options, AtResume))
            ? show => RemoteCommands.Restore(host, state, destination, options, AtResume ? TimeoutSeconds : null, show, Cancellation)
            : null;
    }

    private void Warn(IEnumerable<KvmTscFinding> findings, string prefix)
    {
        foreach (var finding in findings.Where(finding => finding.Severity == FindingSeverity.Warning))
            WriteWarning($"{prefix}{finding.Evidence} {finding.Action}");
    }

    private bool IsConfirmed(string target, Func<string> question)
    {
        // -Force answers the question, but not -WhatIf and not an explicit -Confirm.
        var bound = MyInvocation.BoundParameters;
        return (Force && !bound.ContainsKey("WhatIf") && !bound.ContainsKey("Confirm") && !WhatIfIsPreferred) || ShouldProcess(target, question());
    }
}
