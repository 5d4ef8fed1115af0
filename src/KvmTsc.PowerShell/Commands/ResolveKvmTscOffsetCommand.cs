using System.Management.Automation;
using KvmTsc.Clocks;
using KvmTsc.Migration;
using KvmTsc.PowerShell.Binding;

namespace KvmTsc.PowerShell.Commands;

/// <summary>Computes the destination's offsets from readings of both sides: step 6 of the algorithm alone.</summary>
[Cmdlet(VerbsDiagnostic.Resolve, "KvmTscOffset")]
[OutputType(typeof(KvmVcpuTscOffset))]
public sealed class ResolveKvmTscOffsetCommand : KvmCommand
{
    /// <summary>The vCPU.</summary>
    [Parameter(Mandatory = true, ValueFromPipelineByPropertyName = true)]
    [ValidateRange(0, int.MaxValue)]
    public int VcpuId { get; set; }

    /// <summary>Its offset on the source.</summary>
    [Parameter(Mandatory = true, ValueFromPipelineByPropertyName = true)]
    public long OffsetTicks { get; set; }

    /// <summary>The source's clock, of step 1.</summary>
    [Parameter(Mandatory = true, Position = 0)]
    [FromProperties(typeof(KvmClock))]
    public KvmClock Source { get; set; } = null!;

    /// <summary>The destination's clock after it was set, of step 5.</summary>
    [Parameter(Mandatory = true, Position = 1)]
    [FromProperties(typeof(KvmClock))]
    public KvmClock Destination { get; set; } = null!;

    /// <summary>The source's frequencies, of step 3: one, or one for each vCPU.</summary>
    [Parameter(Mandatory = true, Position = 2)]
    [ValidateNotNullOrEmpty]
    [FromProperties(typeof(KvmTscFrequency))]
    public KvmTscFrequency[] Frequency { get; set; } = [];

    /// <summary>The destination's frequencies, needed where a side scales its TSC.</summary>
    [Parameter]
    [ValidateNotNullOrEmpty]
    [FromProperties(typeof(KvmTscFrequency))]
    public KvmTscFrequency[]? DestinationFrequency { get; set; }

    /// <inheritdoc/>
    protected override void ProcessRecord() => For(Destination.VMName, () => WriteObject(TscStepSix.Resolve(
        VcpuId, OffsetTicks, Source, Destination, Of(Frequency), DestinationFrequency is null ? null : Of(DestinationFrequency))));

    private KvmTscFrequency Of(KvmTscFrequency[] frequencies)
    {
        if (frequencies is [var only])
            return only;
        return Array.Find(frequencies, frequency => frequency.VcpuId == VcpuId) ?? throw new KvmException(
            KvmErrorId.VcpuNotFound, $"There is no frequency of vCPU {VcpuId}.", "Give the frequencies of all vCPUs (Get-KvmTscFrequency), or one for all.")
        {
            VcpuId = VcpuId,
        };
    }
}
