namespace KvmTsc.Hosts;

/// <summary>A host's TSC and its CLOCK_REALTIME at one instant.</summary>
/// <param name="HostTsc">The TSC, in ticks.</param>
/// <param name="Realtime">CLOCK_REALTIME, in nanoseconds.</param>
public readonly record struct HostInstant(ulong HostTsc, ulong Realtime);
