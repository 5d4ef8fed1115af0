using KvmTsc.Arithmetic;

namespace KvmTsc.Migration;

/// <summary>The TSC of one vCPU in a captured state.</summary>
public sealed class KvmVcpuTscState
{
    /// <summary>Creates a value.</summary>
    public KvmVcpuTscState(int vcpuId, long offsetTicks, uint tscKHz, ulong scalingRatio, int scalingFractionBits)
    {
        VcpuId = vcpuId;
        OffsetTicks = offsetTicks;
        TscKHz = tscKHz;
        ScalingRatio = scalingRatio;
        ScalingFractionBits = scalingFractionBits;
    }

    /// <summary>The vCPU.</summary>
    public int VcpuId { get; }

    /// <summary>Its TSC offset in ticks.</summary>
    public long OffsetTicks { get; }

    /// <summary>Its TSC frequency in kHz.</summary>
    public uint TscKHz { get; }

    /// <summary>The multiplier of hardware scaling on the source, 0 without hardware scaling.</summary>
    public ulong ScalingRatio { get; }

    /// <summary>The fraction bits of <see cref="ScalingRatio"/>.</summary>
    public int ScalingFractionBits { get; }

    internal TscRatio Ratio => new(ScalingRatio, ScalingFractionBits);
}
