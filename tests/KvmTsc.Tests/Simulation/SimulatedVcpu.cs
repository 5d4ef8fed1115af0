using System.Numerics;

namespace KvmTsc.Tests.Simulation;

/// <summary>What the kernel keeps of a vCPU's TSC, <c>struct kvm_vcpu_arch</c>.</summary>
internal sealed class SimulatedVcpu(SimulatedHost host)
{
    public const uint KvmSystemTime = 0x12;
    public const uint KvmSystemTimeNew = 0x4B564D01;
    public const uint HyperVReferenceTsc = 0x40000021;

    private static readonly BigInteger s_wrap = BigInteger.One << 64;

    public ulong Offset { get; set; }

    /// <summary>The multiplier that the hardware uses; on a host without scaling it is not there.</summary>
    public ulong Ratio { get; set; } = host.FractionBits == 0 ? 0 : 1UL << host.FractionBits;

    public uint VirtualKHz { get; set; } = host.Spec.TscKHz;

    public bool CatchUp { get; set; }

    public int Generation { get; set; }

    public ulong WrittenTsc { get; set; }

    public ulong WrittenAt { get; set; }

    /// <summary>Whether its guest uses kvmclock.</summary>
    public bool HasKvmclock
    {
        get => (OtherMsrs[KvmSystemTimeNew] & 1) != 0;
        set => OtherMsrs[KvmSystemTimeNew] = value ? 0x1001 : 0ul;
    }

    /// <summary>Those by which a guest turns on clocks of KVM's.</summary>
    public Dictionary<uint, ulong> OtherMsrs { get; } = new() { [KvmSystemTime] = 0, [KvmSystemTimeNew] = 0, [HyperVReferenceTsc] = 0 };

    /// <summary>How often its guest was told that it was stopped.</summary>
    public int TimesToldOfStop { get; set; }

    /// <summary>Whether an MSR is one of them.</summary>
    public static bool IsGuestClock(uint msr) => msr is KvmSystemTime or KvmSystemTimeNew or HyperVReferenceTsc;

    /// <summary>The guest TSC at which its timer is to fire, 0 if it is not armed.</summary>
    public ulong TscDeadline { get; set; }

    /// <summary>The offset by which the kernel computed when that is.</summary>
    public ulong TscDeadlineOffset { get; set; }

    /// <summary>What its offset is to make up for when it is loaded the next time.</summary>
    public ulong HostTicksLost { get; set; }

    /// <summary>It is loaded, for an ioctl or to run.</summary>
    public void Load() => (Offset, HostTicksLost) = (OffsetWhenLoaded, 0);

    public ulong OffsetWhenLoaded => (ulong)((Offset + Scale(HostTicksLost)) % s_wrap);

    /// <summary>The guest's TSC when the host's is <paramref name="hostTsc"/>.</summary>
    public ulong GuestTsc(ulong hostTsc) => (ulong)((Scale(hostTsc) + Offset) % s_wrap);

    public BigInteger Scale(ulong hostTsc) => host.FractionBits == 0 ? hostTsc : (((BigInteger)hostTsc * Ratio) >> host.FractionBits) % s_wrap;

    public ulong GuestTscNow => GuestTsc(host.Tsc);

    /// <summary>What the guest's TSC really runs at, in Hz.</summary>
    public double ActualHz => host.FractionBits == 0 ? host.Spec.TscHz : host.Spec.TscHz * (Ratio / Math.Pow(2, host.FractionBits));
}
