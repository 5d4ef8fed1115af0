using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace KvmTsc.Interop;

/// <summary><c>struct kvm_sregs</c>, x86. Only the segments are looked into; the rest is carried along.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct KvmSregs
{
    public KvmSegment Cs, Ds, Es, Fs, Gs, Ss, Tr, Ldt;
    public Remainder Rest;

    /// <summary>Descriptor tables, control registers, EFER, APIC base and the interrupt bitmap: 15 words.</summary>
    [InlineArray(15)]
    public struct Remainder
    {
        private ulong _word;
    }
}
