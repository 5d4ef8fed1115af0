namespace KvmTsc.Tests.Simulation;

/// <summary>The time that all simulated hosts share, in picoseconds since the simulation began. It passes only when told to.</summary>
internal sealed class SimulatedTime
{
    public long Picoseconds { get; private set; }

    public void Advance(long picoseconds) => Picoseconds += picoseconds;

    public void Advance(TimeSpan time) => Advance(time.Ticks * 100_000);
}
