using KvmTsc.Interop;

namespace KvmTsc.Tests.Simulation;

/// <summary>
/// The clocks of a host. CLOCK_REALTIME follows the true time but for a constant error, as that of a synchronised host does; the kernel's
/// raw clock, kvmclock's base, follows the TSC with the frequency that the kernel takes it for.
/// </summary>
internal sealed class SimulatedHost(HostSpec spec, SimulatedTime time)
{
    private const ulong RealtimeAtBeginning = 1_760_000_000_123_456_789;
    private const ulong UptimeAtBeginning = 7_654_321_987;

    private long _stoodStill; // picoseconds in which its TSC did not count
    private ulong _tscStart = spec.TscStart;
    private long _realtimeStep;

    public HostSpec Spec => spec;

    public SimulatedTime Time => time;

    public ulong Tsc => unchecked(_tscStart + Ticks);

    public ulong Realtime => RealtimeAtBeginning + (ulong)((time.Picoseconds / 1000) + RealtimeError - (spec.HadLeapSecond ? 1_000_000_000 : 0));

    /// <summary>By how much CLOCK_REALTIME is ahead of the true time, but for a leap second, in nanoseconds.</summary>
    public long RealtimeError => spec.RealtimeErrorNanoseconds + _realtimeStep + (long)(time.Picoseconds / 1000 * spec.RealtimePpm / 1e6);

    /// <summary>What adjtimex(2) says of it.</summary>
    public Timex Timex
    {
        get
        {
            var microseconds = (Math.Abs(RealtimeError) + 999) / 1000;
            var timex = new Timex { Status = 0x2001, Tai = spec.TaiOffsetSeconds + (spec.HadLeapSecond ? 1 : 0) };
            switch (spec.Keeper)
            {
                case ClockKeeper.Exact:
                    (timex.MaxError, timex.Status) = (Math.Max(1, (Math.Abs(spec.RealtimeErrorNanoseconds) + 999) / 1000), spec.ClockSynchronized ? 0x2001 : 0x40);
                    break;
                case ClockKeeper.Chrony:
                    (timex.MaxError, timex.EstimatedError) = (microseconds + 731, microseconds / 2);
                    break;
                case ClockKeeper.Timesyncd:
                    timex.Offset = -RealtimeError;
                    break;
                case ClockKeeper.Ptp:
                    (timex.MaxError, timex.EstimatedError, timex.Status) = (16_000_000, 16_000_000, 0x2041);
                    break;
                default:
                    (timex.MaxError, timex.EstimatedError, timex.Status) = (16_000_000, 16_000_000, 0x40);
                    break;
            }

            return timex;
        }
    }

    /// <summary>For how long it was suspended.</summary>
    public ulong SuspendedNanoseconds { get; private set; }

    /// <summary>It sleeps, and wakes with the right time of day; its TSC stands still, or begins anew.</summary>
    public void Suspend(TimeSpan duration, bool tscBeginsAnew)
    {
        var before = Tsc;
        Pause(duration);
        SuspendedNanoseconds += (ulong)duration.Ticks * 100;
        if (!tscBeginsAnew)
            return;
        _tscStart = unchecked(0 - Ticks);
        TscLost?.Invoke(before);
    }

    /// <summary>Its TSC begins anew: what it was before.</summary>
    public event Action<ulong>? TscLost;

    /// <summary>Being a virtual machine, it is paused, knows nothing of it, and is soon given the right time of day.</summary>
    public void Pause(TimeSpan duration)
    {
        time.Advance(duration);
        _stoodStill += duration.Ticks * 100_000;
    }

    /// <summary>Somebody sets its CLOCK_REALTIME.</summary>
    public void StepRealtime(TimeSpan step) => _realtimeStep += step.Ticks * 100;

    public ulong RawNanoseconds => UptimeAtBeginning + (ulong)((UInt128)Ticks * 1_000_000 * (ulong)(1_000_000_000 + spec.RawPartsPerBillion) / spec.TscKHz / 1_000_000_000);

    /// <summary>What KVM's clocks count from, which also counts while the host sleeps (<c>get_kvmclock_base_ns</c>).</summary>
    public ulong KvmclockBase => RawNanoseconds + SuspendedNanoseconds;

    public int FractionBits => spec.Scaling switch
    {
        TscScaling.Intel => 48,
        TscScaling.Amd => 32,
        _ => 0,
    };

    /// <summary>The rate at which the kernel has to correct its clock to follow the true time, in ppm; with what chrony slews by, which others have as an offset.</summary>
    public double SlewPpm => (((spec.TscKHz * 1000.0 / spec.TscHz) - 1) * 1e6) + (spec.Keeper == ClockKeeper.Chrony ? spec.RealtimePpm : 0);

    private ulong Ticks => (ulong)((UInt128)(time.Picoseconds - _stoodStill) * spec.TscHz / 1_000_000_000_000);
}
