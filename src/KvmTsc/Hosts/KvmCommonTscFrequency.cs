using KvmTsc.Arithmetic;

namespace KvmTsc.Hosts;

/// <summary>The TSC frequencies that a guest can have on each of several hosts: scaled, or within what KVM tolerates.</summary>
public sealed class KvmCommonTscFrequency
{
    private KvmCommonTscFrequency(uint lowest, uint highest, IReadOnlyList<KvmHostInformation> hosts)
    {
        MinimumTscKHz = lowest;
        MaximumTscKHz = highest;
        TscKHz = CommonTscFrequency.Best(hosts.Select(host => host.HostTsc), lowest, highest);
        Hosts = hosts.Select(host => new KvmHostTscFrequency(host, TscKHz)).ToArray(); // PowerShell cannot index what the compiler makes of a collection expression
        DriftPpm = TscRatio.SpreadPpm(Hosts.Min(host => host.UnscaledPpm), Hosts.Max(host => host.UnscaledPpm));
    }

    /// <summary>
    /// The one of them, in kHz, with which hosts differ least in what they run the guest's TSC at; of equals the one that is least off on the host where it is most off, and
    /// then that nearest to the slowest host's.
    /// </summary>
    public uint TscKHz { get; }

    /// <summary>The lowest of them, in kHz.</summary>
    public uint MinimumTscKHz { get; }

    /// <summary>The highest of them, in kHz.</summary>
    public uint MaximumTscKHz { get; }

    /// <summary>By how much faster the guest's TSC runs on one of the hosts than on another, at most, with <see cref="TscKHz"/>; in parts per million.</summary>
    public double DriftPpm { get; }

    /// <summary>What each host makes of <see cref="TscKHz"/>.</summary>
    public IReadOnlyList<KvmHostTscFrequency> Hosts { get; }

    /// <summary>Finds them.</summary>
    /// <param name="hosts">The hosts, at least one.</param>
    /// <exception cref="KvmException">There are none, or no host can be as one of these.</exception>
    public static KvmCommonTscFrequency Of(IReadOnlyList<KvmHostInformation> hosts)
    {
        foreach (var host in hosts)
            host.Validate();
        var fastest = hosts.MaxBy(host => host.HostTsc.LowestGuestKHz)!;
        var slowest = hosts.MinBy(host => host.HostTsc.HighestGuestKHz)!;
        var (lowest, highest) = (fastest.HostTsc.LowestGuestKHz, slowest.HostTsc.HighestGuestKHz);
        return lowest <= highest
            ? new(lowest, highest, hosts)
            : throw new KvmException(
                KvmErrorId.FrequencyUnsupported,
                $"No guest TSC can be had on all of these hosts: {fastest.MachineName} gives none below {lowest} kHz, {slowest.MachineName} none above {highest} kHz.",
                "Leave one of the two out, or use hosts with TSC scaling (HasTscScaling of Get-KvmHost).");
    }
}
