using KvmTsc.Arithmetic;
using KvmTsc.Processes;

namespace KvmTsc.Hosts;

/// <summary>This host, as a state captured here names it.</summary>
internal static class LocalHost
{
    /// <summary>The kernel's clocksource, null where it cannot be read.</summary>
    public static string? ClockSource => KernelFiles.ReadLine("/sys/devices/system/clocksource/clocksource0/current_clocksource");

    /// <summary>Its boot.</summary>
    public static string? BootId => KernelFiles.ReadLine("/proc/sys/kernel/random/boot_id");

    /// <summary>What its kernel has of what clocks are migrated by.</summary>
    public static HostAbilities Abilities
    {
        get
        {
            using var device = KvmDevice.Open();
            return HostAbilities.Of(device);
        }
    }

    /// <summary>What its TSC is like.</summary>
    public static HostTscTraits Tsc
    {
        get
        {
            using var device = KvmDevice.Open();
            return HostProbe.TraitsOf(device);
        }
    }

    /// <summary>Its identity now; the synchronisation of its clock changes with time.</summary>
    public static KvmHostIdentity Identify(uint tscKHz)
    {
        var clock = HostClock.Read();
        var (now, raw, suspended) = HostClock.ReadAll();
        return new KvmHostIdentity(
            Environment.MachineName,
            KernelFiles.ReadLine("/etc/machine-id"),
            BootId,
            KernelFiles.ReadLine("/proc/sys/kernel/osrelease"),
            tscKHz,
            clock.Status,
            clock.MaxErrorMicroseconds,
            clock.SlewPpm,
            clock.TaiOffsetSeconds,
            now.HostTsc,
            now.Realtime,
            raw,
            suspended,
            Platform.IsVirtual);
    }
}
