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

    /// <summary><c>MSR_KVM_SYSTEM_TIME</c>: where the guest's kvmclock is, as its first version had it.</summary>
    public const uint KvmSystemTime = 0x12;

    /// <summary><c>MSR_KVM_SYSTEM_TIME_NEW</c>: the same, as it is today.</summary>
    public const uint KvmSystemTimeNew = 0x4B564D01;

    /// <summary><c>HV_X64_MSR_REFERENCE_TSC</c>: where the guest's reference TSC page of Hyper-V is.</summary>
    public const uint HyperVReferenceTsc = 0x40000021;

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
