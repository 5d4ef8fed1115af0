using KvmTsc.Arithmetic;
using KvmTsc.Interop;
using KvmTsc.Processes;

namespace KvmTsc.Hosts;

/// <summary>What this host can do for the clocks of its VMs, and what it lacks.</summary>
public sealed class KvmHostInformation
{
    private static readonly string[] s_tscFlags =
        ["constant_tsc", "nonstop_tsc", "tsc_known_freq", "tsc_reliable", "tsc_scale", "tsc_adjust", "rdtscp"];

    private KvmHostInformation(KvmDevice device)
    {
        var clock = HostClock.Read();
        HostTscTraits = HostProbe.TraitsOf(device);
        Abilities = HostAbilities.Of(device);
        MaximumVcpus = device.Check(KvmCapability.MaxVcpus);
        HasKvmclockCtrl = device.Check(KvmCapability.KvmclockCtrl) != 0;
        HasVMTscControl = device.Check(KvmCapability.VMTscControl) != 0;
        ClockSynchronized = clock.Synchronized;
        MaxErrorMicroseconds = clock.MaxErrorMicroseconds;
        EstimatedErrorMicroseconds = clock.EstimatedErrorMicroseconds;
        SlewPpm = clock.SlewPpm;
        TaiOffsetSeconds = clock.TaiOffsetSeconds;
    }

    private HostTscTraits HostTscTraits { get; }

    private HostAbilities Abilities { get; }

    /// <summary>Asks the kernel.</summary>
    /// <exception cref="KvmException">This machine or this user cannot use KVM.</exception>
    public static KvmHostInformation Read()
    {
        using var device = KvmDevice.Open();
        return new KvmHostInformation(device);
    }

    /// <summary>The host's name.</summary>
    public string MachineName { get; } = Environment.MachineName;

    /// <summary>The kernel.</summary>
    public string? KernelRelease { get; } = KernelFiles.ReadLine("/proc/sys/kernel/osrelease");

    /// <summary>The boot: a TSC goes on within one, and starts anew with the next.</summary>
    public string? BootId { get; } = LocalHost.BootId;

    /// <summary>The KVM module: kvm_amd or kvm_intel.</summary>
    public string? KvmModule { get; } = (Platform.IsIntel ? new[] { "kvm_intel", "kvm_amd" } : ["kvm_amd", "kvm_intel"])
        .FirstOrDefault(name => Directory.Exists($"/sys/module/{name}"));

    /// <summary>The version of KVM's API.</summary>
    public int ApiVersion { get; } = 12;

    /// <summary>How many vCPUs a VM can have.</summary>
    public int MaximumVcpus { get; }

    /// <summary>Whether vCPUs have <c>KVM_VCPU_TSC_OFFSET</c> (Linux 5.16).</summary>
    public bool HasTscOffset => Abilities.HasTscOffset;

    /// <summary>The flags that <c>KVM_GET_CLOCK</c> can give; Realtime and HostTsc came in Linux 5.16.</summary>
    public KvmClockFlags ClockFlags => Abilities.ClockFlags;

    /// <summary>Whether a paused guest can be told so (<c>KVM_KVMCLOCK_CTRL</c>), which keeps it from reporting soft lockups.</summary>
    public bool HasKvmclockCtrl { get; }

    /// <summary>Whether a whole VM can be given a TSC frequency (<c>KVM_CAP_VM_TSC_CONTROL</c>).</summary>
    public bool HasVMTscControl { get; }

    /// <summary>Whether clocks can be migrated on this host: offsets, and clock readings with host TSC and CLOCK_REALTIME.</summary>
    public bool CanMigrateTsc => HasTscOffset && Abilities.HasTriple && HostAbilities.AllowMasterClock(ClockSource);

    /// <summary>The host's clocksource; KVM's master clock needs tsc.</summary>
    public string? ClockSource { get; } = LocalHost.ClockSource;

    /// <summary>The host's TSC frequency as KVM uses it, in kHz.</summary>
    public uint TscKHz => HostTscTraits.KHz;

    /// <summary>Whether the CPU scales TSCs, so that guests can have other frequencies.</summary>
    public bool HasTscScaling => HostTscTraits.HasScaling;

    /// <summary>The fraction bits of the scaling ratio: 48 on Intel, 32 on AMD, 0 without scaling.</summary>
    public int TscScalingFractionBits => HostTscTraits.FractionBits;

    /// <summary>How far a guest's frequency may be from the host's before KVM scales, in parts per million.</summary>
    public uint TscTolerancePpm => HostTscTraits.TolerancePpm;

    /// <summary>What the CPU says of its TSC, from /proc/cpuinfo.</summary>
    public IReadOnlyList<string> TscFlags { get; } = ReadTscFlags();

    /// <summary>Whether CLOCK_REALTIME is synchronised, by adjtimex(2).</summary>
    public bool ClockSynchronized { get; }

    /// <summary>By how much CLOCK_REALTIME may be off, by adjtimex(2).</summary>
    public long MaxErrorMicroseconds { get; }

    /// <summary>By how much CLOCK_REALTIME is thought to be off, by adjtimex(2).</summary>
    public long EstimatedErrorMicroseconds { get; }

    /// <summary>By how much the kernel corrects the rate of CLOCK_REALTIME, in parts per million.</summary>
    public double SlewPpm { get; }

    /// <summary>TAI minus UTC, 0 where nobody told the kernel.</summary>
    public int TaiOffsetSeconds { get; }

    /// <summary>Yama's ptrace_scope: 0 own processes, 1 descendants only, 2 administrators, 3 nobody; null without Yama.</summary>
    public int? PtraceScope { get; } = Yama.PtraceScope;

    /// <summary>Whether KVM's debugfs can be read: an independent witness of every VM's offsets.</summary>
    public bool CanReadDebugfs { get; } = IsReadable("/sys/kernel/debug/kvm");

    private static string[] ReadTscFlags()
    {
        var line = File.ReadLines("/proc/cpuinfo").FirstOrDefault(line => line.StartsWith("flags", StringComparison.Ordinal));
        var flags = line?.Split([' ', ':', '\t'], StringSplitOptions.RemoveEmptyEntries).ToHashSet(StringComparer.Ordinal);
        return [.. s_tscFlags.Where(flag => flags?.Contains(flag) ?? false)];
    }

    private static bool IsReadable(string directory)
    {
        try
        {
            _ = Directory.EnumerateFileSystemEntries(directory).Any();
            return true;
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            return false;
        }
    }
}
