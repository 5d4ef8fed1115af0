using KvmTsc.Arithmetic;

namespace KvmTsc.Clocks;

/// <summary>By how much the TSC of one vCPU is advanced.</summary>
public sealed class KvmVcpuTscAdvance
{
    internal KvmVcpuTscAdvance(int vcpuId, long oldOffsetTicks, long newOffsetTicks, uint tscKHz)
    {
        VcpuId = vcpuId;
        OldOffsetTicks = oldOffsetTicks;
        NewOffsetTicks = newOffsetTicks;
        TscKHz = tscKHz;
    }

    /// <summary>The vCPU.</summary>
    public int VcpuId { get; }

    /// <summary>The offset before.</summary>
    public long OldOffsetTicks { get; }

    /// <summary>The offset after.</summary>
    public long NewOffsetTicks { get; }

    /// <summary>Its TSC frequency in kHz.</summary>
    public uint TscKHz { get; }

    /// <summary>By how much its TSC is advanced, in ticks: never negative.</summary>
    public long AdvancedTicks => TscArithmetic.Distance(unchecked((ulong)OldOffsetTicks), unchecked((ulong)NewOffsetTicks));

    /// <summary>The same in nanoseconds.</summary>
    public double AdvancedNanoseconds => AdvancedTicks * 1e6 / TscKHz;
}
