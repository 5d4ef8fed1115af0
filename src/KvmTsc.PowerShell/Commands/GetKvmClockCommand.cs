using System.Management.Automation;
using KvmTsc.Clocks;
using KvmTsc.Machines;

namespace KvmTsc.PowerShell.Commands;

/// <summary>Reads kvmclock with its host TSC and CLOCK_REALTIME.</summary>
[Cmdlet(VerbsCommon.Get, "KvmClock", DefaultParameterSetName = ByName)]
[OutputType(typeof(KvmClock))]
public sealed class GetKvmClockCommand : VMCommand
{
    /// <inheritdoc/>
    protected override void Process(Machine machine)
    {
        var clock = GuestClock.Read(machine, Cancellation);
        if (GuestClock.DoubtOf(clock) is { } doubt)
            WriteWarning(doubt);
        WriteObject(clock);
    }
}
