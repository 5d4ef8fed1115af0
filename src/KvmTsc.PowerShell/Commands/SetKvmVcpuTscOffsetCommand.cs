using System.Management.Automation;
using KvmTsc.Clocks;
using KvmTsc.Machines;
using KvmTsc.PowerShell.Wording;

namespace KvmTsc.PowerShell.Commands;

/// <summary>Writes TSC offsets, those of all vCPUs of a VM in one go.</summary>
[Cmdlet(VerbsCommon.Set, "KvmVcpuTscOffset", DefaultParameterSetName = ByName, SupportsShouldProcess = true)]
[OutputType(typeof(KvmVcpuTscOffset))]
public sealed class SetKvmVcpuTscOffsetCommand : VcpuSetCommand<long>
{
    /// <summary>The offset in ticks of the guest's TSC.</summary>
    [Parameter(Mandatory = true, Position = 1, ValueFromPipelineByPropertyName = true)]
    public long OffsetTicks { get; set; }

    /// <summary>Lets the vCPUs' offsets differ, and the TSC of a guest that has run go backwards.</summary>
    [Parameter]
    public SwitchParameter Force { get; set; }

    /// <inheritdoc/>
    protected override long Value => OffsetTicks;

    /// <inheritdoc/>
    protected override string Question(Machine machine, IReadOnlyDictionary<int, long> values)
    {
        var old = GuestTsc.PreviewOffsets(machine, values, Force, Cancellation).Select(offset => offset.OffsetTicks);
        return $"Set the TSC offset from {Text.Common(old)} to {Text.Common(values.Values)} ticks";
    }

    /// <inheritdoc/>
    protected override IEnumerable<object> Set(Machine machine, IReadOnlyDictionary<int, long> values) =>
        GuestTsc.SetOffsets(machine, values, Force, Cancellation);
}
