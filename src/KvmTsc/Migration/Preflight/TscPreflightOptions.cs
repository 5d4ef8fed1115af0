namespace KvmTsc.Migration.Preflight;

/// <summary>What a preflight is to judge by.</summary>
public sealed record TscPreflightOptions
{
    /// <summary>By how much the clocks of two hosts may be off, together: beyond 128 ms an NTP client steps a clock instead of slewing it.</summary>
    public const double DefaultMaximumErrorMicroseconds = 128_000;

    /// <summary>By how much CLOCK_REALTIME of both hosts may be off, together.</summary>
    public double MaximumErrorMicroseconds { get; init; } = DefaultMaximumErrorMicroseconds;

    /// <summary>
    /// How the state is to be restored. By force: what that lifts is a warning. Where the downtime does not count, neither do the clocks that
    /// measure it.
    /// </summary>
    public TscRestoreOptions Restore { get; init; } = new();

    /// <summary>The downtime to come.</summary>
    public double DowntimeSeconds { get; init; }

    /// <summary>How CLOCK_REALTIME of both hosts compares, if somebody asked both.</summary>
    public KvmClockComparison? Clocks { get; init; }

    /// <summary>Does not stop the destination, because its clocks do not matter yet, or because they are looked at afterwards anyway.</summary>
    public bool LeavesDestinationAlone { get; init; }
}
