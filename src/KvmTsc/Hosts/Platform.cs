using System.Runtime.InteropServices;

namespace KvmTsc.Hosts;

/// <summary>Where KvmTsc runs at all.</summary>
internal static class Platform
{
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
