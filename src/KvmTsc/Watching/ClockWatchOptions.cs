namespace KvmTsc.Watching;

/// <summary>What is watched, and what is done about it.</summary>
/// <param name="IsWatched">Whether a VM is, by its name.</param>
/// <param name="Corrects">Whether time that is lost is given back.</param>
/// <param name="IsDryRun">Whether that is only said.</param>
/// <param name="MaximumDowntime">The most that is given back at once, null for any.</param>
/// <param name="StatePath">Where the lines of clocks are kept for the next watch, null for nowhere. It is written to only where time is given back.</param>
/// <param name="MetricsPath">The file that counts are written to, for Prometheus' node exporter; null for none.</param>
public sealed record ClockWatchOptions(
    Predicate<string> IsWatched, bool Corrects = false, bool IsDryRun = false, TimeSpan? MaximumDowntime = null, string? StatePath = null, string? MetricsPath = null)
{
    internal bool Acts => Corrects && !IsDryRun;
}
