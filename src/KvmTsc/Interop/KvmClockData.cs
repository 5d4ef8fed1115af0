using System.Runtime.InteropServices;

namespace KvmTsc.Interop;

/// <summary><c>struct kvm_clock_data</c>.</summary>
[StructLayout(LayoutKind.Explicit, Size = 48)]
internal struct KvmClockData
{
    /// <summary>The flags of a reading that has what the algorithm needs.</summary>
    public const uint Triple = (uint)(KvmClockFlags.Realtime | KvmClockFlags.HostTsc);

    [FieldOffset(0)] public ulong Clock;
    [FieldOffset(8)] public uint Flags;
    [FieldOffset(16)] public ulong Realtime;
    [FieldOffset(24)] public ulong HostTsc;

    public readonly bool HasTriple => (Flags & Triple) == Triple && !IsOfLostTsc;

    /// <summary>Whether KVM computed it from a TSC that began anew while the host slept, as it does until the VM enters its guest again: it tells nothing.</summary>
    public readonly bool IsOfLostTsc => (Flags & Triple) == Triple && !CanBe(Clock);

    /// <summary>
    /// Whether a kvmclock can be so much: 73 years are more than any counts to, and less than KVM makes of a TSC that lies before that of its master clock
    /// (<c>__pvclock_read_cycles</c> scales 2^64 less the difference).
    /// </summary>
    public static bool CanBe(ulong clock) => clock >> 61 == 0;
}
