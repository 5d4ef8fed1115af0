using KvmTsc.Migration;

namespace KvmTsc.Watching;

/// <summary>What is done about the clocks of a VM that is watched.</summary>
/// <param name="Corrects">Whether time that is lost is dealt with; it is only told else.</param>
/// <param name="Downtime">Whether it is given back, or the pause has not passed for the guest by any of its clocks.</param>
/// <param name="MaximumDowntime">The most that is given back at once, null for any.</param>
public sealed record ClockPolicy(bool Corrects = false, TscDowntime Downtime = TscDowntime.Count, TimeSpan? MaximumDowntime = null);
