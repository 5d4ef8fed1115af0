using System.Globalization;
using System.Text.RegularExpressions;

namespace KvmTsc.Watching;

/// <summary>What a line of a trace tells.</summary>
internal enum TraceEventKind
{
    /// <summary>kvm_update_master_clock: a VM's kvmclock was set, or KVM took its master clock anew.</summary>
    MasterClock,

    /// <summary>kvm_write_tsc_offset: a vCPU's TSC was moved, or written as it was.</summary>
    Offset,

    /// <summary>kvm_track_tsc: the TSC that the same thread has just moved was moved by the VMM; of what a guest writes itself KVM keeps no track.</summary>
    Tracked,

    /// <summary>kvm_userspace_exit by a signal: a vCPU may have been paused.</summary>
    Exit,

    /// <summary>The kernel had no room: events are missing.</summary>
    Lost,
}

/// <summary>One event of KVM's.</summary>
/// <param name="Kind">What it is.</param>
/// <param name="HostTsc">The host's TSC at it.</param>
/// <param name="ThreadId">The thread that did it.</param>
internal readonly partial record struct TraceEvent(TraceEventKind Kind, ulong HostTsc, int ThreadId)
{
    /// <summary>Understands a line of trace_pipe; null for one that is about nothing that counts.</summary>
    public static TraceEvent? Parse(string line)
    {
        if (line.StartsWith("CPU:", StringComparison.Ordinal) && line.Contains("[LOST", StringComparison.Ordinal))
            return new TraceEvent(TraceEventKind.Lost, 0, 0);
        if (Line().Match(line) is not { Success: true } match)
            return null;
        TraceEventKind? kind = match.Groups["name"].Value switch
        {
            KvmTrace.MasterClock => TraceEventKind.MasterClock,
            KvmTrace.Offset => TraceEventKind.Offset,
            KvmTrace.Tracked => TraceEventKind.Tracked,
            KvmTrace.Exit => TraceEventKind.Exit,
            _ => null,
        };
        return kind is { } known
            ? new TraceEvent(
                known,
                ulong.Parse(match.Groups["tsc"].Value, CultureInfo.InvariantCulture),
                int.Parse(match.Groups["thread"].Value, CultureInfo.InvariantCulture))
            : null;
    }

    // TASK-TID [CPU] FLAGS TSC: NAME: ..., where a task's name may have anything in it.
    [GeneratedRegex(@"-(?<thread>\d+)\s+(?:\(\s*[\d-]+\)\s+)?\[\d+\]\s+\S+\s+(?<tsc>\d+): (?<name>\w+): ", RegexOptions.CultureInvariant)]
    private static partial Regex Line();
}
