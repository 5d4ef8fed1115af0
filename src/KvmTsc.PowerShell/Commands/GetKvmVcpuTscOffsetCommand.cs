using System.Management.Automation;
using KvmTsc.Clocks;
using KvmTsc.Machines;
using KvmTsc.PowerShell.Errors;

namespace KvmTsc.PowerShell.Commands;

/// <summary>Reads the TSC offset per vCPU.</summary>
[Cmdlet(VerbsCommon.Get, "KvmVcpuTscOffset", DefaultParameterSetName = ByName)]
[OutputType(typeof(KvmVcpuTscOffset))]
public sealed class GetKvmVcpuTscOffsetCommand : VcpuCommand
{
    /// <summary>Reads what debugfs shows, or nothing.</summary>
    [Parameter]
    public SwitchParameter NoStop { get; set; }

    /// <summary>Reads by ioctls, all vCPUs of a VM at one instant.</summary>
    [Parameter]
    public SwitchParameter Stop { get; set; }

    /// <inheritdoc/>
    protected override void BeginProcessing()
    {
        if (Stop && NoStop)
        {
            ThrowTerminatingError(ErrorRecords.From(
                new KvmException(KvmErrorId.InvalidValue, "-Stop and -NoStop exclude each other.", "Give one of them, or none."), null));
        }
    }

    /// <inheritdoc/>
    protected override void Process(Machine machine, IReadOnlyCollection<int> vcpuIds) => WriteObject(Read(machine, vcpuIds), enumerateCollection: true);

    private IReadOnlyList<KvmVcpuTscOffset> Read(Machine machine, IReadOnlyCollection<int> vcpuIds) => this switch
    {
        { NoStop.IsPresent: true } => GuestTsc.ReadShownOffsets(machine, vcpuIds),
        { Stop.IsPresent: false } when GuestTsc.FindShownOffsets(machine, vcpuIds) is { } shown => shown,
        _ => GuestTsc.ReadOffsets(machine, vcpuIds, Cancellation),
    };
}
