namespace KvmTsc.Tests.Simulation;

/// <summary>
/// The clocks of a host. CLOCK_REALTIME follows the true time but for a constant error, as that of a synchronised host does; the kernel's
/// raw clock, kvmclock's base, follows the TSC with the frequency that the kernel takes it for.
/// </summary>
internal sealed class SimulatedHost(HostSpec spec, SimulatedTime time)
{
    private const ulong RealtimeAtBeginning = 1_760_000_000_123_456_789;
    private const ulong UptimeAtBeginning = 7_654_321_987;

    public HostSpec Spec => spec;

    public SimulatedTime Time => time;

    public ulong Tsc => unchecked(spec.TscStart + Ticks);

    public ulong Realtime => RealtimeAtBeginning + (ulong)((time.Picoseconds / 1000) + spec.RealtimeErrorNanoseconds);

    public ulong RawNanoseconds => UptimeAtBeginning + (ulong)((UInt128)Ticks * 1_000_000 / spec.TscKHz);

    public int FractionBits => spec.Scaling switch
    {
        TscScaling.Intel => 48,
        TscScaling.Amd => 32,
        _ => 0,
    };

    /// <summary>The rate at which the kernel has to correct its clock to follow the true time, in ppm.</summary>
    public double SlewPpm => ((spec.TscKHz * 1000.0 / spec.TscHz) - 1) * 1e6;

    private ulong Ticks => (ulong)((UInt128)time.Picoseconds * spec.TscHz / 1_000_000_000_000);
}
