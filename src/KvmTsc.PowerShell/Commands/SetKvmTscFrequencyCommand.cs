using System.Management.Automation;
using KvmTsc.Clocks;
using KvmTsc.Machines;
using KvmTsc.PowerShell.Wording;

namespace KvmTsc.PowerShell.Commands;

/// <summary>Sets the guest's TSC frequency.</summary>
[Cmdlet(VerbsCommon.Set, "KvmTscFrequency", DefaultParameterSetName = ByName, SupportsShouldProcess = true)]
[OutputType(typeof(KvmTscFrequency))]
public sealed class SetKvmTscFrequencyCommand : VcpuSetCommand<uint>
{
    /// <summary>The frequency in kHz.</summary>
    [Parameter(Mandatory = true, Position = 1, ValueFromPipelineByPropertyName = true)]
    [ValidateRange(1U, uint.MaxValue)]
    public uint TscKHz { get; set; }

    /// <summary>Takes a frequency above the host's on a CPU without TSC scaling, which KVM can only chase.</summary>
    [Parameter]
    public SwitchParameter Force { get; set; }

    /// <inheritdoc/>
    protected override uint Value => TscKHz;

    /// <inheritdoc/>
    protected override string Question(Machine machine, IReadOnlyDictionary<int, uint> values)
    {
        var old = GuestTsc.PreviewFrequencies(machine, values, Force, Cancellation).Select(frequency => frequency.TscKHz);
        return $"Set the TSC frequency from {Text.Common(old)} kHz to {Text.Common(values.Values)} kHz";
    }

    /// <inheritdoc/>
    protected override IEnumerable<object> Set(Machine machine, IReadOnlyDictionary<int, uint> values) =>
        GuestTsc.SetFrequencies(machine, values, Force, Cancellation);
}
