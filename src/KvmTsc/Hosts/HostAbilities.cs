using KvmTsc.Interop;

namespace KvmTsc.Hosts;

/// <summary>What a host's kernel has of what clocks are migrated by.</summary>
/// <param name="HasTscOffset">Whether vCPUs have <c>KVM_VCPU_TSC_OFFSET</c>, and keep what is written there.</param>
/// <param name="ClockFlags">The flags that <c>KVM_GET_CLOCK</c> can give.</param>
public sealed record HostAbilities(bool HasTscOffset, KvmClockFlags ClockFlags)
{
    private const string HypervClockSource = "hyperv_clocksource_tsc_page";

    /// <summary>Whether a clock reading can have host TSC and CLOCK_REALTIME.</summary>
    public bool HasTriple => ((uint)ClockFlags & KvmClockData.Triple) == KvmClockData.Triple;

    /// <summary>Whether KVM has master clocks on a host with this clocksource (<c>gtod_is_based_on_tsc</c>); true where it is not known.</summary>
    public static bool AllowMasterClock(string? clockSource) => clockSource is null or "tsc" or HypervClockSource;

    /// <summary>Refuses a kernel that lacks something.</summary>
    /// <exception cref="KvmException">It does.</exception>
    public void Require()
    {
        if (!HasTscOffset)
        {
            throw new KvmException(
                KvmErrorId.TscOffsetUnsupported,
                "The kernel's KVM has no KVM_VCPU_TSC_OFFSET, or ignores what is written there.",
                "Use Linux 5.16 or newer, which has it, and kvm_amd or kvm_intel: other kinds of KVM (kvm_pvm) ignore it.");
        }

        if (!HasTriple)
        {
            throw new KvmException(
                KvmErrorId.ClockTripleUnsupported,
                $"The kernel's KVM_GET_CLOCK gives no host TSC and CLOCK_REALTIME: of its flags it knows {ClockFlags}.",
                "Use Linux 5.16 or newer, whose clock readings have both.");
        }
    }

    internal static HostAbilities Of(KvmDevice device) =>
        new(HostProbe.Of(device).HasTscOffset, (KvmClockFlags)device.Check(KvmCapability.AdjustClock));
}
