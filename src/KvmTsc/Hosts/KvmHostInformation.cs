using KvmTsc.Arithmetic;
using KvmTsc.Interop;
using KvmTsc.Processes;

namespace KvmTsc.Hosts;

/// <summary>What a host can do for the clocks of its VMs, and what it lacks.</summary>
public sealed class KvmHostInformation
{
    private static readonly string[] s_tscFlags =
        ["constant_tsc", "nonstop_tsc", "tsc_known_freq", "tsc_reliable", "tsc_scale", "tsc_adjust", "rdtscp"];

    private const string IntelModule = "kvm_intel";

    private static readonly string[] s_modules = ["kvm_amd", IntelModule];

    /// <summary>Creates a value; it is checked when it is used.</summary>
    public KvmHostInformation(
        string? machineName, string? kernelRelease, string? bootId, string? kvmModule, int apiVersion, int maximumVcpus, bool hasTscOffset,
        KvmClockFlags clockFlags, bool hasKvmclockCtrl, bool hasVMTscControl, string? clockSource, uint tscKHz, int tscScalingFractionBits,
        uint tscTolerancePpm, string[]? tscFlags, bool clockSynchronized, long maxErrorMicroseconds, long estimatedErrorMicroseconds, double slewPpm,
        int taiOffsetSeconds, int? ptraceScope, bool canReadDebugfs)
    {
        MachineName = machineName;
        KernelRelease = kernelRelease;
        BootId = bootId;
        KvmModule = kvmModule;
        ApiVersion = apiVersion;
        MaximumVcpus = maximumVcpus;
        Abilities = new HostAbilities(hasTscOffset, clockFlags);
        HasKvmclockCtrl = hasKvmclockCtrl;
        HasVMTscControl = hasVMTscControl;
        ClockSource = clockSource;
        HostTsc = new HostTscTraits(tscKHz, tscScalingFractionBits, tscTolerancePpm);
        TscFlags = tscFlags ?? [];
        ClockSynchronized = clockSynchronized;
        MaxErrorMicroseconds = maxErrorMicroseconds;
        EstimatedErrorMicroseconds = estimatedErrorMicroseconds;
        SlewPpm = slewPpm;
        TaiOffsetSeconds = taiOffsetSeconds;
        PtraceScope = ptraceScope;
        CanReadDebugfs = canReadDebugfs;
    }

    /// <summary>Asks the kernel.</summary>
    /// <exception cref="KvmException">This machine or this user cannot use KVM.</exception>
    public static KvmHostInformation Read()
    {
        using var device = KvmDevice.Open();
        var tsc = HostProbe.TraitsOf(device);
        var abilities = HostAbilities.Of(device);
        var clock = HostClock.Read();
        return new KvmHostInformation(
            Environment.MachineName,
            KernelFiles.ReadLine("/proc/sys/kernel/osrelease"),
            LocalHost.BootId,
            FindModule(),
            KvmDevice.ApiVersion,
            device.Check(KvmCapability.MaxVcpus),
            abilities.HasTscOffset,
            abilities.ClockFlags,
            device.Check(KvmCapability.KvmclockCtrl) != 0,
            device.Check(KvmCapability.VMTscControl) != 0,
            LocalHost.ClockSource,
            tsc.KHz,
            tsc.FractionBits,
            tsc.TolerancePpm,
            ReadTscFlags(),
            clock.Synchronized,
            clock.MaxErrorMicroseconds,
            clock.EstimatedErrorMicroseconds,
            clock.SlewPpm,
            clock.TaiOffsetSeconds,
            Yama.PtraceScope,
            IsReadable("/sys/kernel/debug/kvm"));
    }

    /// <summary>The host's name.</summary>
    public string? MachineName { get; }

    /// <summary>The kernel.</summary>
    public string? KernelRelease { get; }

    /// <summary>The boot: a TSC goes on within one, and starts anew with the next.</summary>
    public string? BootId { get; }

    /// <summary>The KVM module: kvm_amd or kvm_intel.</summary>
    public string? KvmModule { get; }

    /// <summary>The version of KVM's API.</summary>
    public int ApiVersion { get; }

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
    public string? ClockSource { get; }

    /// <summary>The host's TSC frequency as KVM uses it, in kHz.</summary>
    public uint TscKHz => HostTsc.KHz;

    /// <summary>Whether the CPU scales TSCs, so that guests can have other frequencies.</summary>
    public bool HasTscScaling => HostTsc.HasScaling;

    /// <summary>The fraction bits of the scaling ratio: 48 on Intel, 32 on AMD, 0 without scaling.</summary>
    public int TscScalingFractionBits => HostTsc.FractionBits;

    /// <summary>How far a guest's frequency may be from the host's before KVM scales, in parts per million.</summary>
    public uint TscTolerancePpm => HostTsc.TolerancePpm;

    /// <summary>What the CPU says of its TSC, from /proc/cpuinfo.</summary>
    public IReadOnlyList<string> TscFlags { get; }

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
    public int? PtraceScope { get; }

    /// <summary>Whether KVM's debugfs can be read: an independent witness of every VM's offsets.</summary>
    public bool CanReadDebugfs { get; }

    /// <summary>What its TSC is like.</summary>
    internal HostTscTraits HostTsc { get; }

    /// <summary>What its kernel has of what clocks are migrated by.</summary>
    internal HostAbilities Abilities { get; }

    /// <summary>Which host it is, without readings of its clocks: they went on since.</summary>
    internal KvmHostIdentity Identity => new(
        MachineName, machineId: null, BootId, KernelRelease, TscKHz, ClockSynchronized ? 0 : Timex.Unsynchronized, MaxErrorMicroseconds, SlewPpm, TaiOffsetSeconds);

    /// <summary>Refuses what no kernel can have said of its TSC.</summary>
    /// <exception cref="KvmException">It is that.</exception>
    internal void Validate()
    {
        if (TscKHz is > 0 and <= int.MaxValue
            && TscScalingFractionBits is 0 or HostTscTraits.AmdFractionBits or HostTscTraits.IntelFractionBits
            && TscTolerancePpm <= HostTscTraits.Million)
            return;
        throw new KvmException(
            KvmErrorId.InvalidValue,
            $"No host is as {MachineName} is said to be: a TSC of {TscKHz} kHz, scaled by {TscScalingFractionBits} bits, with a tolerance of {TscTolerancePpm} ppm.",
            "Ask the host again with Get-KvmHost.");
    }

    private static string? FindModule() =>
        s_modules.OrderBy(name => name == IntelModule != Platform.IsIntel).FirstOrDefault(name => Directory.Exists($"/sys/module/{name}"));

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
