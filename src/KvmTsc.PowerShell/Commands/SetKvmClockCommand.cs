using System.Management.Automation;
using KvmTsc.Clocks;
using KvmTsc.Machines;
using KvmTsc.PowerShell.Wording;

namespace KvmTsc.PowerShell.Commands;

/// <summary>Sets kvmclock, advanced by the real time that has passed or not.</summary>
[Cmdlet(VerbsCommon.Set, "KvmClock", DefaultParameterSetName = ByName, SupportsShouldProcess = true)]
[OutputType(typeof(KvmClock))]
public sealed class SetKvmClockCommand : VMCommand
{
    /// <summary>kvmclock in nanoseconds.</summary>
    [Parameter(Mandatory = true, Position = 1, ValueFromPipelineByPropertyName = true)]
    public ulong ClockNanoseconds { get; set; }

    /// <summary>
    /// CLOCK_REALTIME in nanoseconds at the instant when kvmclock stood at ClockNanoseconds: the kernel adds the real time since. Without it
    /// kvmclock is set as it is.
    /// </summary>
    [Parameter(Position = 2, ValueFromPipelineByPropertyName = true)]
    public ulong? RealtimeNanoseconds { get; set; }

    /// <summary>Lets the clock of a guest that has run go backwards.</summary>
    [Parameter]
    public SwitchParameter Force { get; set; }

    /// <summary>Writes the clock, read back.</summary>
    [Parameter]
    public SwitchParameter PassThru { get; set; }

    /// <inheritdoc/>
    protected override void Process(Machine machine)
    {
        // A reading without CLOCK_REALTIME that is piped or spliced in must not silently turn into "do not advance".
        if (RealtimeNanoseconds is null && MyInvocation.BoundParameters.ContainsKey(nameof(RealtimeNanoseconds)))
            throw NoRealtime();
        if (!ShouldProcess(machine.Identity.ToString(), Question(machine)))
            return;
        var clock = GuestClock.Set(machine, ClockNanoseconds, RealtimeNanoseconds, Force, Cancellation);
        if (PassThru)
            WriteObject(clock);
    }

    private string Question(Machine machine)
    {
        var old = GuestClock.Preview(machine, ClockNanoseconds, RealtimeNanoseconds, Force, Cancellation).ClockNanoseconds;
        var advanced = RealtimeNanoseconds is { } realtime ? $" plus the real time since {Text.Realtime(realtime)}" : "";
        return $"Set kvmclock from {Text.Seconds(old)} to {Text.Seconds(ClockNanoseconds)}{advanced}";
    }

    private static KvmException NoRealtime() => new(
        KvmErrorId.RealtimeInvalid,
        "That clock reading has no CLOCK_REALTIME: the VM that it is of never ran, or its vCPUs' TSC offsets differ.",
        "Leave -RealtimeNanoseconds out to set kvmclock as it is, without advancing it.");
}
