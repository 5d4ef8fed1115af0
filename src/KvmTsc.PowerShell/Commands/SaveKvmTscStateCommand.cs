using System.Management.Automation;
using KvmTsc.Machines;
using KvmTsc.Migration;

namespace KvmTsc.PowerShell.Commands;

/// <summary>Captures the clocks of VMs: steps 1 to 3 of the algorithm.</summary>
[Cmdlet(VerbsData.Save, "KvmTscState", DefaultParameterSetName = ByName)]
[OutputType(typeof(KvmTscState))]
public sealed class SaveKvmTscStateCommand : VMCommand
{
    /// <summary>Takes vCPUs whose offsets differ, where the clock can still be captured.</summary>
    [Parameter]
    public SwitchParameter Force { get; set; }

    /// <inheritdoc/>
    protected override void Process(Machine machine) => WriteObject(KvmTscState.Save(machine, Force, Cancellation));
}
