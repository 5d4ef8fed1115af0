using System.Management.Automation;
using System.Runtime.InteropServices;
using KvmTsc.Migration;
using KvmTsc.PowerShell.Binding;
using KvmTsc.PowerShell.Completion;
using KvmTsc.Processes;
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

    /// <summary>Whether the time of a pause is given back, or has not passed for the guest at all.</summary>
    [Parameter]
    public TscDowntime Downtime { get; set; } = TscDowntime.Count;

    /// <summary>What is to be done about which VMs: a data file. It goes before the other parameters, which count for VMs that it does not name.</summary>
    [Parameter]
    [ValidateNotNullOrEmpty]
    public string? PolicyPath { get; set; }

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
        // A service is ended by SIGTERM, and ends well: PowerShell alone would only be gone.
        using var terminated = ServiceManager.IsThere ? PosixSignalRegistration.Create(PosixSignal.SIGTERM, context => End(context, ended)) : null;
        ClockWatch.Run(Options(), WriteObject, ended.Token);
    });

    private static void End(PosixSignalContext context, CancellationTokenSource ended)
    {
        context.Cancel = true;
        ServiceManager.Tell("STOPPING=1");
        ended.Cancel();
    }

    private ClockWatchOptions Options()
    {
        var names = Name.Select(name => (Name: name, Pattern: WildcardPattern.Get(name, WildcardOptions.IgnoreCase))).ToArray();
        var policies = PolicyPath is null ? null : ClockPolicyFile.Read(GetUnresolvedProviderPathFromPSPath(PolicyPath));
        var otherwise = new ClockPolicy(Correct, Downtime, MaximumDowntime);
        return new ClockWatchOptions(
            PolicyOf,
            (Correct || policies?.Corrects == true) && ShouldProcess(string.Join(", ", Name), "Give back the time that the guests of these VMs lose, whenever they do"),
            GetUnresolvedProviderPathFromPSPath(StatePath),
            MetricsPath is not null && ShouldProcess(MetricsPath, "Write counts to this file") ? GetUnresolvedProviderPathFromPSPath(MetricsPath) : null,
            count => ServiceManager.Tell($"READY=1\nSTATUS=Watching the clocks of {count} VM{(count == 1 ? "" : "s")}"));

        ClockPolicy? PolicyOf(string vm) => !Array.Exists(names, known => known.Pattern.IsMatch(vm) || string.Equals(known.Name, vm, StringComparison.OrdinalIgnoreCase))
            ? null
            : policies is null ? otherwise : policies.PolicyOf(vm, otherwise);
    }
}
