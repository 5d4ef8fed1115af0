using System.Runtime.InteropServices;

namespace KvmTsc.Interop;

/// <summary><c>struct kvm_msrs</c> with one <c>struct kvm_msr_entry</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct KvmMsr
{
    /// <summary><c>MSR_IA32_TSC</c>: the guest's TSC.</summary>
    public const uint Tsc = 0x10;

    /// <summary><c>MSR_IA32_TSC_DEADLINE</c>.</summary>
    public const uint TscDeadline = 0x6E0;

    public uint Count, Padding;
    public uint Index, Reserved;
    public ulong Data;

    /// <summary><c>struct kvm_msrs</c> alone, by whose size the requests are numbered.</summary>
    [StructLayout(LayoutKind.Sequential)]
    public struct Header
    {
        public uint Count, Padding;
    }
}
