
namespace KvmTsc.Migration;

/// <summary>What became of one vCPU's TSC.</summary>
public sealed class KvmVcpuTscResult
{
    internal KvmVcpuTscResult(
        string vmName, int vcpuId, long oldOffsetTicks, long newOffsetTicks, uint oldTscKHz, uint newTscKHz, ulong guestTsc, long residualTicks,
        double residualNanoseconds)
    {
        VMName = vmName;
        VcpuId = vcpuId;
        OldOffsetTicks = oldOffsetTicks;
        NewOffsetTicks = newOffsetTicks;
        OldTscKHz = oldTscKHz;
        NewTscKHz = newTscKHz;
        GuestTsc = guestTsc;
        ResidualTicks = residualTicks;
        ResidualNanoseconds = residualNanoseconds;
    }

    /// <summary>The VM's name.</summary>
    public string VMName { get; }

    /// <summary>The vCPU.</summary>
    public int VcpuId { get; }

    /// <summary>The offset before.</summary>
    public long OldOffsetTicks { get; }

    /// <summary>The offset now, read back.</summary>
    public long NewOffsetTicks { get; }

    /// <summary>The TSC frequency before.</summary>
    public uint OldTscKHz { get; }

    /// <summary>The TSC frequency now, read back.</summary>
    public uint NewTscKHz { get; }

    /// <summary>The guest's TSC when the clock was read back.</summary>
    public ulong GuestTsc { get; }

    /// <summary>The measured distance of <see cref="GuestTsc"/> from what the source's guest would have read at that instant, in ticks.</summary>
    public long ResidualTicks { get; }

    /// <summary>The same in nanoseconds.</summary>
    public double ResidualNanoseconds { get; }
}
