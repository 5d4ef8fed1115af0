using System.Runtime.InteropServices;
using System.Runtime.Intrinsics.X86;

namespace KvmTsc.Hosts;

/// <summary>Where KvmTsc runs at all.</summary>
internal static class Platform
{
    /// <summary>Whether this machine is a virtual one: what every hypervisor tells of itself (CPUID 1, ECX bit 31).</summary>
    public static bool IsVirtual { get; } = X86Base.IsSupported && X86Base.CpuId(1, 0).Ecx < 0;

    /// <summary>Whether the CPU is Intel's, which says how its TSC is scaled; both of KVM's modules may be there.</summary>
    public static bool IsIntel { get; } = X86Base.IsSupported && X86Base.CpuId(0, 0) is { Ebx: 0x756E6547, Edx: 0x49656E69, Ecx: 0x6C65746E }; // "GenuineIntel"

    /// <summary>Refuses what is not Linux on x86-64.</summary>
    public static void Require(bool isLinux, Architecture architecture)
    {
        if (!isLinux)
        {
            throw new KvmException(
                KvmErrorId.NotLinux, "KVM is a part of Linux, and this is not Linux.", "Run this on the KVM host itself, for instance with Enter-PSSession -HostName HOST.");
        }

        if (architecture != Architecture.X64)
        {
            throw new KvmException(
                KvmErrorId.NotX64, $"The TSC is an x86 counter, and this process is {architecture}.", "Run this on an x86-64 KVM host, in an x86-64 PowerShell.");
        }
    }
}
