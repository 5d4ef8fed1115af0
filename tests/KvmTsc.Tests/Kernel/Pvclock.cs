using System.Runtime.InteropServices;
using KvmTsc.Arithmetic;

namespace KvmTsc.Tests.Kernel;

/// <summary><c>struct pvclock_vcpu_time_info</c>: where KVM tells a guest of its kvmclock.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 4)]
internal struct Pvclock
{
    /// <summary>Where our guests have none of theirs.</summary>
    public const ulong Address = 0x8000;

    public uint Version, Padding;
    public ulong TscTimestamp, SystemTime;
    public uint TscToSystemMultiplier;
    public sbyte TscShift;
    public byte Flags;
    public ushort MorePadding;

    /// <summary>kvmclock at a TSC of the guest's, <c>__pvclock_read_cycles</c>.</summary>
    public readonly ulong At(ulong guestTsc) => SystemTime + new PvclockScale(TscToSystemMultiplier, TscShift).Apply(guestTsc - TscTimestamp);
}
