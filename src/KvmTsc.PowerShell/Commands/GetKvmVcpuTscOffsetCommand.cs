using System.Management.Automation;
using KvmTsc.Clocks;
using KvmTsc.Machines;

namespace KvmTsc.PowerShell.Commands;

/// <summary>Reads the TSC offset per vCPU.</summary>
[Cmdlet(VerbsCommon.Get, "KvmVcpuTscOffset", DefaultParameterSetName = ByName)]
[OutputType(typeof(KvmVcpuTscOffset))]
public sealed class GetKvmVcpuTscOffsetCommand : VcpuCommand
{
    /// <summary>Reads what debugfs shows, and stops nothing.</summary>
    [Parameter]
    public SwitchParameter NoStop { get; set; }

    /// <inheritdoc/>
    protected override void Process(Machine machine, IReadOnlyCollection<int> vcpuIds)
    {
        var offsets = NoStop ? GuestTsc.ReadShownOffsets(machine, vcpuIds) : GuestTsc.ReadOffsets(machine, vcpuIds, Cancellation);
        WriteObject(offsets, enumerateCollection: true);
    }
}
