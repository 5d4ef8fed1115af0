using System.Management.Automation;
using KvmTsc.PowerShell.Binding;
using KvmTsc.PowerShell.Completion;
using KvmTsc.Watching;

namespace KvmTsc.PowerShell.Commands;

/// <summary>Watches the clocks of VMs, and gives back the time that their guests lose.</summary>
[Cmdlet(VerbsCommon.Watch, "KvmClock", SupportsShouldProcess = true)]
[OutputType(typeof(KvmClockEvent))]
public sealed class WatchKvmClockCommand : KvmCommand
{
    /// <summary>Names of VMs, with wildcards; all if none are given. Those that come later are watched as well.</summary>
    [Parameter(Position = 0)]
    [ValidateNotNullOrEmpty]
    [SupportsWildcards]
    [ArgumentCompleter(typeof(VMNameCompleter))]
    [Alias("VMName")]
    public string[] Name { get; set; } = ["*"];

    /// <summary>Gives back the time that a guest loses.</summary>
    [Parameter]
    public SwitchParameter Correct { get; set; }

    /// <summary>The most that is given back at once: a number of seconds, or a TimeSpan.</summary>
    [Parameter]
    [Seconds]
    public TimeSpan? MaximumDowntime { get; set; }

    /// <summary>Where what is known of the clocks is kept for the next watch, with -Correct: a directory.</summary>
    [Parameter]
    [ValidateNotNullOrEmpty]
    public string StatePath { get; set; } = "/var/lib/kvmtsc";

    /// <summary>The file that counts are written to, for Prometheus' node exporter: NAME.prom in the directory of its textfile collector.</summary>
    [Parameter]
    [ValidatePattern(@"\.prom\z")]
    public string? MetricsPath { get; set; }

    /// <summary>How long to watch, in seconds; until Ctrl+C if it is not given.</summary>
    [Parameter]
    [ValidateRange(1, int.MaxValue / 1000)]
    public int? TimeoutSeconds { get; set; }

    /// <inheritdoc/>
    protected override void ProcessRecord() => For(null, () =>
    {
        using var ended = CancellationTokenSource.CreateLinkedTokenSource(Cancellation);
        if (TimeoutSeconds is { } seconds)
            ended.CancelAfter(TimeSpan.FromSeconds(seconds));
        var patterns = Name.Select(name => (Name: name, Pattern: WildcardPattern.Get(name, WildcardOptions.IgnoreCase))).ToArray();
        var acts = Correct && ShouldProcess(string.Join(", ", Name), "Give back the time that the guests of these VMs lose, whenever they do");
        var counts = MetricsPath is not null && ShouldProcess(MetricsPath, "Write counts to this file");
        ClockWatch.Run(
            new ClockWatchOptions(
                vm => Array.Exists(patterns, known => known.Pattern.IsMatch(vm) || string.Equals(known.Name, vm, StringComparison.OrdinalIgnoreCase)),
                Correct,
                !acts,
                MaximumDowntime,
                GetUnresolvedProviderPathFromPSPath(StatePath),
                counts ? GetUnresolvedProviderPathFromPSPath(MetricsPath) : null),
            WriteObject,
            ended.Token);
    });
}
