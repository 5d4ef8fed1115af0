using System.Management.Automation;
using System.Management.Automation.Runspaces;
using KvmTsc.Hosts;
using KvmTsc.Migration;
using KvmTsc.Migration.Preflight;
using KvmTsc.PowerShell.Binding;
using KvmTsc.PowerShell.Completion;
using KvmTsc.PowerShell.Remoting;

namespace KvmTsc.PowerShell.Commands;

/// <summary>Tells whether a migration would work, how exactly, and what stands in its way.</summary>
[Cmdlet(VerbsDiagnostic.Test, "KvmTscMigration", DefaultParameterSetName = ToVM)]
[OutputType(typeof(KvmTscMigrationTest))]
public sealed class TestKvmTscMigrationCommand : KvmCommand
{
    private const string ToVM = "VM";
    private const string ToHost = "Host";

    /// <summary>What the clocks are taken from: a VM, by its name or an object of Get-KvmVM, or a state of Save-KvmTscState.</summary>
    [Parameter(Mandatory = true, Position = 0, ValueFromPipeline = true)]
    [ValidateNotNull]
    [Source]
    [ArgumentCompleter(typeof(VMNameCompleter))]
    [Alias("State")]
    public object Source { get; set; } = null!;

    /// <summary>The VM that is to get them; a VM that this host is yet to run if none is given.</summary>
    [Parameter(Position = 1, ParameterSetName = ToVM, ValueFromPipelineByPropertyName = true)]
    [FromProperties(typeof(VMReference))]
    [ArgumentCompleter(typeof(VMNameCompleter))]
    public VMReference? Destination { get; set; }

    /// <summary>A session on the host that runs the source; this host if none is given.</summary>
    [Parameter(ValueFromPipelineByPropertyName = true)]
    public PSSession? SourceSession { get; set; }

    /// <summary>A session on the host that runs the destination, or is to run it; this host if none is given.</summary>
    [Parameter(ParameterSetName = ToVM, ValueFromPipelineByPropertyName = true)]
    public PSSession? DestinationSession { get; set; }

    /// <summary>The host that is to run the destination, as it said of itself by Get-KvmHost, whenever that was: it is asked nothing.</summary>
    [Parameter(Mandatory = true, ParameterSetName = ToHost)]
    [FromProperties(typeof(KvmHostInformation))]
    public KvmHostInformation? DestinationHost { get; set; }

    /// <summary>What is to become of the time during which the guest stands still: see Invoke-KvmTscMigration.</summary>
    [Parameter]
    public TscDowntime Downtime { get; set; }

    /// <summary>The longest downtime that is to be restored: a number of seconds, or a TimeSpan.</summary>
    [Parameter]
    [Seconds]
    public TimeSpan? MaximumDowntime { get; set; }

    /// <summary>The downtime to come, in seconds, for the predicted bound.</summary>
    [Parameter]
    [ValidateRange(0.0, 1e9)]
    public double DowntimeSeconds { get; set; }

    /// <summary>By how many microseconds CLOCK_REALTIME of both hosts may be off, together.</summary>
    [Parameter]
    [ValidateRange(0.0, double.MaxValue)]
    public double MaximumErrorMicroseconds { get; set; } = TscPreflightOptions.DefaultMaximumErrorMicroseconds;

    /// <summary>
    /// How CLOCK_REALTIME of both hosts compares, if somebody asked both: an object with AheadNanoseconds, of the destination's, and
    /// UncertaintyNanoseconds. Without it the hosts are asked, where there are two and both can be.
    /// </summary>
    [Parameter]
    [FromProperties(typeof(KvmClockComparison))]
    public KvmClockComparison? Clocks { get; set; }

    /// <summary>The destination is to be restored when it is resumed: its clocks do not matter yet, and it is not stopped.</summary>
    [Parameter(ParameterSetName = ToVM)]
    public SwitchParameter AtResume { get; set; }

    /// <summary>The migration is to be forced: what that lifts is a warning, not an error.</summary>
    [Parameter]
    public SwitchParameter Force { get; set; }

    /// <summary>Writes only whether it would work.</summary>
    [Parameter]
    public SwitchParameter Quiet { get; set; }

    /// <inheritdoc/>
    protected override void ProcessRecord() => For((Source as KvmTscState)?.VMName ?? Source, () =>
    {
        var source = new MigrationSource(Source, SourceSession, Targets, ShowProgress, Cancellation);
        var options = new TscPreflightOptions
        {
            MaximumErrorMicroseconds = MaximumErrorMicroseconds,
            Restore = new TscRestoreOptions(Force: Force, Downtime: Downtime, MaximumDowntime: MaximumDowntime),
            DowntimeSeconds = DowntimeSeconds,
            Clocks = Clocks ?? (Downtime == TscDowntime.Count && DestinationHost is null ? source.CompareClocks(DestinationSession) : null),
            LeavesDestinationAlone = AtResume,
        };
        if (DestinationSession is null)
        {
            var found = (DestinationHost is null ? source.Preflight(Destination is null ? null : Targets.Single(Destination), options) : source.Plan(DestinationHost, options)).Result;
            WriteObject(Quiet ? found.Passed : found);
        }
        else
        {
            var found = RemoteCommands.Test(
                new RemoteHost(DestinationSession), source.Capture(force: true), Destination, options, ShowProgress, Cancellation);
            WriteObject(Quiet ? found.Passed : found.Result);
        }
    });
}
