using KvmTsc.Arithmetic;
using KvmTsc.Clocks;
using KvmTsc.Hosts;
using KvmTsc.Local;

namespace KvmTsc.SelfTest;

/// <summary>One case of the kernel's system counter offset test: a guest read its TSC, the host read its own before and after.</summary>
public sealed class KvmTscOffsetTest
{
    private KvmTscOffsetTest(string vmName, int vcpuId, long offsetTicks, ulong? earliest, ulong? observed, ulong? latest, string? reason)
    {
        VMName = vmName;
        VcpuId = vcpuId;
        OffsetTicks = offsetTicks;
        EarliestGuestTsc = earliest;
        ObservedGuestTsc = observed;
        LatestGuestTsc = latest;
        Reason = reason;
    }

    /// <summary>The VM's name.</summary>
    public string VMName { get; }

    /// <summary>The vCPU.</summary>
    public int VcpuId { get; }

    /// <summary>Its TSC offset.</summary>
    public long OffsetTicks { get; }

    /// <summary>The scaled host TSC before the guest ran, plus the offset.</summary>
    public ulong? EarliestGuestTsc { get; }

    /// <summary>What the guest read.</summary>
    public ulong? ObservedGuestTsc { get; }

    /// <summary>The scaled host TSC after the guest ran, plus the offset.</summary>
    public ulong? LatestGuestTsc { get; }

    /// <summary>Whether the guest's reading lies between the two; null where the kernel cannot be tested.</summary>
    public bool? Passed => ObservedGuestTsc is { } observed
        ? unchecked(observed - EarliestGuestTsc!.Value) <= unchecked(LatestGuestTsc!.Value - EarliestGuestTsc.Value)
        : null;

    /// <summary>Why it did not pass or could not be tested.</summary>
    public string? Reason { get; }

    /// <summary>Has every vCPU of a VM read its TSC, at the offset that it has.</summary>
    public static IEnumerable<KvmTscOffsetTest> Ask(LocalMachine machine, IReadOnlyCollection<int>? vcpuIds, CancellationToken cancellationToken)
    {
        var frequencies = GuestTsc.ReadFrequencies(machine, vcpuIds, cancellationToken).ToDictionary(frequency => frequency.VcpuId);
        foreach (var offset in GuestTsc.ReadOffsets(machine, vcpuIds, cancellationToken))
        {
            cancellationToken.ThrowIfCancellationRequested();
            var frequency = frequencies[offset.VcpuId];
            yield return Ask(machine, offset, new TscRatio(frequency.ScalingRatio, frequency.ScalingFractionBits));
        }
    }

    /// <summary>Builds a VM and asks each of its vCPUs at each offset.</summary>
    /// <param name="vcpuCount">How many vCPUs the VM has.</param>
    /// <param name="tscKHz">The guest's TSC frequency, null for the host's.</param>
    /// <param name="offsets">The offsets.</param>
    /// <param name="cancellationToken">Ends the test.</param>
    public static IEnumerable<KvmTscOffsetTest> Run(int vcpuCount, uint? tscKHz, IReadOnlyList<long> offsets, CancellationToken cancellationToken)
    {
        const string Name = "system-counter-offset-test";
        using var device = KvmDevice.Open();
        if (!HostProbe.Of(device).HasTscOffset)
        {
            foreach (var offset in offsets)
            foreach (var id in Enumerable.Range(0, vcpuCount))
                yield return new KvmTscOffsetTest(Name, id, offset, null, null, null, "Unsupported: this kernel's KVM has no KVM_VCPU_TSC_OFFSET, which came in Linux 5.16, or ignores what is written there, as kvm_pvm does.");
            yield break;
        }

        using var machine = LocalMachine.Create(device, Name, vcpuCount, tscKHz);
        foreach (var offset in offsets)
        {
            GuestTsc.SetOffsets(machine, machine.VcpuIds.ToDictionary(id => id, _ => offset), force: true, cancellationToken);
            foreach (var result in Ask(machine, null, cancellationToken))
                yield return result;
        }
    }

    private static KvmTscOffsetTest Ask(LocalMachine machine, KvmVcpuTscOffset offset, TscRatio ratio)
    {
        var (before, guest, after) = machine.ReadGuestTsc(offset.VcpuId);
        var ticks = unchecked((ulong)offset.OffsetTicks);
        var earliest = TscArithmetic.GuestTsc(before, ratio, ticks);
        var latest = TscArithmetic.GuestTsc(after, ratio, ticks);
        var outside = Math.Max(TscArithmetic.Distance(latest, guest), TscArithmetic.Distance(guest, earliest));
        var reason = outside > 0 ? $"The guest's TSC lies {outside} ticks outside of the bracket." : null;
        return new KvmTscOffsetTest(machine.Identity.Name, offset.VcpuId, offset.OffsetTicks, earliest, guest, latest, reason);
    }
}
