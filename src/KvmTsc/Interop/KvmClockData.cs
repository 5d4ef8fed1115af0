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

    public readonly bool HasTriple => (Flags & Triple) == Triple;
}
