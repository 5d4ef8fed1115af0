using KvmTsc.Clocks;
using KvmTsc.Interop;

namespace KvmTsc.Machines;

/// <summary>What a host's kernel has of what clocks are migrated by.</summary>
/// <param name="HasTscOffset">Whether vCPUs have <c>KVM_VCPU_TSC_OFFSET</c>.</param>
/// <param name="ClockFlags">The flags that <c>KVM_GET_CLOCK</c> can give.</param>
public sealed record HostAbilities(bool HasTscOffset, KvmClockFlags ClockFlags)
{
    /// <summary>Whether a clock reading can have host TSC and CLOCK_REALTIME.</summary>
    public bool HasTriple => ClockIoctls.HasTriple((uint)ClockFlags);

    /// <summary>Refuses a kernel that lacks something.</summary>
    /// <exception cref="KvmException">It does.</exception>
    public void Require()
    {
        if (!HasTscOffset)
        {
            throw new KvmException(
                KvmErrorId.TscOffsetUnsupported, "The kernel has no KVM_VCPU_TSC_OFFSET.", "Use Linux 5.16 or newer, which has it.");
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
