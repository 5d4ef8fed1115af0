namespace KvmTsc.Arithmetic;

/// <summary>
/// A frequency that several hosts give a guest. A host that tolerates it runs the guest at its own rate; one that scales gives it as it is, but for the rounding of the
/// ratio, which is not looked at here.
/// </summary>
/// <param name="KHz">The frequency.</param>
/// <param name="Slowest">The rate of the host on which it runs slowest, in kHz.</param>
/// <param name="Fastest">The rate of the host on which it runs fastest, in kHz.</param>
internal readonly record struct CommonTscFrequency(uint KHz, uint Slowest, uint Fastest)
{
    /// <summary>
    /// Of all from the lowest to the highest, which each host gives, the one with which hosts differ least in what they run at; of equals the one that is least off on the host
    /// where it is most off, and then that nearest to the slowest host's.
    /// </summary>
    public static uint Best(IEnumerable<HostTscTraits> hosts, uint lowest, uint highest)
    {
        var kinds = hosts.Distinct().ToArray();
        var slowest = kinds.Min(host => host.KHz);
        return Stretches(kinds, lowest, highest)
            .Select(stretch => BestOf(kinds, slowest, stretch.First, stretch.Last))
            .Aggregate((best, other) => other.Compare(best, slowest) < 0 ? other : best)
            .KHz;
    }

    /// <summary>Parts of the range in which each host either tolerates all or scales all.</summary>
    private static IEnumerable<(uint First, uint Last)> Stretches(HostTscTraits[] hosts, uint lowest, uint highest)
    {
        var starts = hosts
            .SelectMany(host => new[] { host.LowestTolerated, host.HighestTolerated + 1 })
            .Where(start => start > lowest && start <= highest)
            .Select(start => (uint)start)
            .Append(lowest)
            .Distinct()
            .Order()
            .ToArray();
        return starts.Zip(starts.Skip(1).Select(next => next - 1).Append(highest));
    }

    /// <summary>The best of a stretch: the nearest to the middle of the rates of those that tolerate it, or to the slowest host's where none does.</summary>
    private static CommonTscFrequency BestOf(HostTscTraits[] hosts, uint slowest, uint first, uint last)
    {
        var tolerating = hosts.Where(host => host.Tolerates(first)).Select(host => host.KHz).ToArray();
        var (least, most) = (tolerating.DefaultIfEmpty(slowest).Min(), tolerating.DefaultIfEmpty(slowest).Max());
        var kHz = Math.Clamp(least + ((most - least + 1) / 2), first, last); // rounded up: as many kHz are a smaller part of more
        return tolerating.Length == hosts.Length ? new(kHz, least, most)
            : tolerating.Length == 0 ? new(kHz, kHz, kHz)
            : new(kHz, Math.Min(kHz, least), Math.Max(kHz, most));
    }

    private int Compare(CommonTscFrequency other, uint slowest) =>
        ((ulong)Fastest * other.Slowest).CompareTo((ulong)other.Fastest * Slowest) is var spread && spread != 0 ? spread
        : ((ulong)Off * other.KHz).CompareTo((ulong)other.Off * KHz) is var off && off != 0 ? off
        : Distance(KHz, slowest).CompareTo(Distance(other.KHz, slowest));

    private uint Off => Math.Max(Distance(KHz, Slowest), Distance(KHz, Fastest));

    private static uint Distance(uint a, uint b) => Math.Max(a, b) - Math.Min(a, b);
}
