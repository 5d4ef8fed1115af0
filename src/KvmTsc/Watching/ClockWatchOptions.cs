namespace KvmTsc.Watching;

/// <summary>What is watched, and what is done about it.</summary>
/// <param name="PolicyOf">What is done about a VM, by its name; null if it is not watched.</param>
/// <param name="Acts">Whether it is done, and not only said.</param>
/// <param name="StatePath">Where the lines of clocks are kept for the next watch, null for nowhere. It is written to only where something is done.</param>
/// <param name="MetricsPath">The file that counts are written to, for Prometheus' node exporter; null for none.</param>
/// <param name="Begun">Told how many VMs are watched when all that are there are, and whenever that changes.</param>
public sealed record ClockWatchOptions(
    Func<string, ClockPolicy?> PolicyOf, bool Acts = false, string? StatePath = null, string? MetricsPath = null, Action<int>? Begun = null);
