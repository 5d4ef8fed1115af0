using KvmTsc.Arithmetic;
using KvmTsc.Machines;

namespace KvmTsc.Clocks;

/// <summary>What it takes to turn a VM's master clock on again.</summary>
public sealed class MasterClockPlan
{
    private MasterClockPlan(TscSnapshot before, bool isNeeded, long offsetTicks)
    {
        Before = before;
        IsNeeded = isNeeded;
        OffsetTicks = offsetTicks;
        Vcpus = before.Vcpus.Select(vcpu => new KvmVcpuTscAdvance(vcpu.Key, unchecked((long)vcpu.Value.Offset), offsetTicks, vcpu.Value.KHz)).ToArray();
    }

    /// <summary>Whether anything is to be written.</summary>
    public bool IsNeeded { get; }

    /// <summary>The offset that all vCPUs are to have.</summary>
    public long OffsetTicks { get; }

    /// <summary>The vCPUs, by ascending id.</summary>
    public IReadOnlyList<KvmVcpuTscAdvance> Vcpus { get; }

    /// <summary>kvmclock now, in nanoseconds.</summary>
    public ulong ClockNanoseconds => Before.Clock.Clock;

    internal TscSnapshot Before { get; }

    /// <summary>Decides, and refuses what would do harm.</summary>
    internal static MasterClockPlan Make(Machine machine, TscSnapshot before, double maximumAdvanceSeconds, bool force)
    {
        var isHealthy = before.OffsetsAreEqual && before.HasTriple;
        RefuseUnequalFrequencies(machine, before);
        GuestTsc.RefuseChased(machine, before.Vcpus.First().Value.KHz, force);
        var plan = new MasterClockPlan(before, force || !isHealthy, LargestOffset(machine, before));
        if (!force)
            plan.RefuseLargeAdvance(machine, maximumAdvanceSeconds);
        return plan;
    }

    /// <summary>The offset of the vCPU that is ahead of all others; on a counter that wraps there is one only if all lie within half of it.</summary>
    private static long LargestOffset(Machine machine, TscSnapshot before)
    {
        foreach (var candidate in before.Vcpus.Values)
        {
            if (before.Vcpus.Values.All(vcpu => TscArithmetic.Distance(vcpu.Offset, candidate.Offset) >= 0))
                return unchecked((long)candidate.Offset);
        }

        throw new KvmException(
            KvmErrorId.AdvanceTooLarge,
            $"The TSC offsets of {machine.Identity.Name} are spread over more than half of what a TSC counts: none of its vCPUs is ahead of all others.",
            "Choose an offset, and write it to all vCPUs: Set-KvmVcpuTscOffset.");
    }

    private static void RefuseUnequalFrequencies(Machine machine, TscSnapshot before)
    {
        var frequencies = before.Vcpus.Values.Select(vcpu => vcpu.KHz).Distinct().Order().ToArray();
        if (frequencies.Length == 1)
            return;
        throw new KvmException(
            KvmErrorId.UnequalFrequencies,
            $"The vCPUs of {machine.Identity.Name} have different TSC frequencies, {string.Join(", ", frequencies)} kHz: with no offset do their TSCs stay together.",
            "Give all of its vCPUs one frequency first: Set-KvmTscFrequency.");
    }

    private void RefuseLargeAdvance(Machine machine, double maximumAdvanceSeconds)
    {
        var most = Vcpus.MaxBy(vcpu => vcpu.AdvancedNanoseconds)!;
        if (most.AdvancedNanoseconds <= maximumAdvanceSeconds * 1e9)
            return;
        throw new KvmException(
            KvmErrorId.AdvanceTooLarge,
            FormattableString.Invariant(
                $"The TSC of vCPU {most.VcpuId} of {machine.Identity.Name} would be advanced by {most.AdvancedTicks} ticks, {most.AdvancedNanoseconds / 1e9:0.######} s; {maximumAdvanceSeconds:0.######} s are allowed."),
            "A guest whose clock is its TSC sees that much time pass at once, on that vCPU. Use -MaximumAdvanceSeconds or -Force if that is better than what it has now.")
        {
            VcpuId = most.VcpuId,
        };
    }
}
