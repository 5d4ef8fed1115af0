using KvmTsc.Arithmetic;
using KvmTsc.Clocks;

namespace KvmTsc.Migration;

/// <summary>Step 6 of the algorithm alone, from readings of both sides: pure.</summary>
public static class TscStepSix
{
    /// <summary>The offset that gives a destination's vCPU the TSC of the source's.</summary>
    /// <param name="vcpuId">The vCPU.</param>
    /// <param name="sourceOffsetTicks">Its offset on the source.</param>
    /// <param name="source">The source's clock (step 1).</param>
    /// <param name="destination">The destination's clock, after it was set (step 5).</param>
    /// <param name="frequency">The vCPU's frequency on the source, and the ratio there (step 3).</param>
    /// <param name="destinationFrequency">The vCPU's frequency and ratio on the destination; null where neither side scales.</param>
    /// <exception cref="KvmException">A reading lacks what the formula needs.</exception>
    public static KvmVcpuTscOffset Resolve(
        int vcpuId, long sourceOffsetTicks, KvmClock source, KvmClock destination, KvmTscFrequency frequency, KvmTscFrequency? destinationFrequency)
    {
        var sourceRatio = new TscRatio(frequency.ScalingRatio, frequency.ScalingFractionBits);
        if (destinationFrequency is null && sourceRatio.Scales)
        {
            throw new KvmException(
                KvmErrorId.InvalidValue,
                $"The source scales its TSC for vCPU {vcpuId} (ratio {frequency.ScalingRatio} / 2^{frequency.ScalingFractionBits}), so the destination's ratio is needed too.",
                "Set the destination's frequency, then give it as -DestinationFrequency (Get-KvmTscFrequency).")
            {
                VcpuId = vcpuId,
            };
        }

        var destinationRatio = destinationFrequency is null
            ? TscRatio.None
            : new TscRatio(destinationFrequency.ScalingRatio, destinationFrequency.ScalingFractionBits);
        var guestTsc = TscArithmetic.GuestTsc(HostTscOf(source, "source"), sourceRatio, unchecked((ulong)sourceOffsetTicks));
        var offset = TscArithmetic.ResolveOffset(
            guestTsc, source.ClockNanoseconds, HostTscOf(destination, "destination"), destination.ClockNanoseconds, frequency.TscKHz, destinationRatio);
        return new KvmVcpuTscOffset(destination.VMName, destination.ProcessId, destination.VMId, vcpuId, unchecked((long)offset), 0, source: null);
    }

    private static ulong HostTscOf(KvmClock clock, string side) => clock.HostTsc ?? throw new KvmException(
        KvmErrorId.ClockWithoutTriple,
        $"The {side}'s clock reading has no host TSC (flags {clock.Flags}): {clock.VMName} never ran, or its vCPUs' TSC offsets differ.",
        "Set the VM's kvmclock first (Set-KvmClock), or write one offset to all of its vCPUs (Set-KvmVcpuTscOffset), then read the clock again.");
}
