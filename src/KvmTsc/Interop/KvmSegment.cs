using System.Runtime.InteropServices;

namespace KvmTsc.Interop;

/// <summary><c>struct kvm_segment</c>, x86.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct KvmSegment
{
    public ulong Base;
    public uint Limit;
    public ushort Selector;
    public byte Type, Present, Dpl, Db, S, L, G, Avl;
    public byte Unusable, Padding;
}
