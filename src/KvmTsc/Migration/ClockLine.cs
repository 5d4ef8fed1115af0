using KvmTsc.Arithmetic;
using KvmTsc.Hosts;
using KvmTsc.Interop;
using KvmTsc.Machines;

namespace KvmTsc.Migration;

/// <summary>What residuals are measured by.</summary>
public enum ResidualMeasure
{
    /// <summary>The host's TSC, which went on from the capture to the restore: exact.</summary>
    HostTsc,

    /// <summary>CLOCK_REALTIME of both hosts.</summary>
    Realtime,
}

/// <summary>Where the source's clocks would stand at the instant at which the destination's were read.</summary>
internal sealed class ClockLine
{
    private readonly KvmTscState _source;
    private readonly KvmClockData _now;
    private readonly PvclockScale _toNanoseconds;
    private readonly bool _isSourcesTsc;
    private readonly ulong _heldNanoseconds;

    /// <param name="source">The state.</param>
    /// <param name="options">How it was restored.</param>
    /// <param name="machine">The VM that it was restored to.</param>
    /// <param name="host">Its host, before.</param>
    /// <param name="setting">The destination's clock, read before it was set, and after.</param>
    /// <param name="now">The destination's clock.</param>
    /// <param name="error">What that is good to, and by how much it was left ahead, in nanoseconds.</param>
    public ClockLine(
        KvmTscState source, TscRestoreOptions options, Machine machine, KvmHostIdentity host, (KvmClockData Before, KvmClockData After) setting, KvmClockData now,
        (double Reading, ulong Held) error)
    {
        var downtime = options.Downtime;
        _source = source;
        _heldNanoseconds = error.Held;
        _now = now;
        _toNanoseconds = PvclockScale.ToNanoseconds(host.TscKHz);
        var isOneTsc = IsOneTsc(source, host, now.HostTsc);
        Downtime = DowntimeOf(source, host, isOneTsc, now.HostTsc, now.Realtime);
        _isSourcesTsc = isOneTsc && downtime == TscDowntime.Count;
        MeasuredBy = MeasureOf(downtime, isOneTsc);
        Elapsed = ElapsedOf(downtime, Downtime, (long)_toNanoseconds.Apply(now.HostTsc - setting.Before.HostTsc));
        ErrorBoundNanoseconds = BoundOf(source, options, machine.HostTsc, host, isOneTsc, (new HostInstant(now.HostTsc, now.Realtime), Elapsed))
            + _toNanoseconds.Apply(setting.After.HostTsc - setting.Before.HostTsc) + error.Reading + (source.ClockErrorNanoseconds ?? 0);
    }

    public ResidualMeasure MeasuredBy { get; }

    /// <summary>The time since the capture, in nanoseconds.</summary>
    public long Downtime { get; }

    /// <summary>The time that is to have passed for the guest, in nanoseconds.</summary>
    public long Elapsed { get; }

    public double ErrorBoundNanoseconds { get; }

    /// <summary>The same for kvmclock, of which KVM does not tell quite what the guest saw, and which no guest is taken back by.</summary>
    public double ClockErrorBoundNanoseconds => ErrorBoundNanoseconds + ScaledClockError(_source, Elapsed) + _heldNanoseconds;

    /// <summary>kvmclock of the source.</summary>
    public ulong ExpectedClock => unchecked(_source.ClockNanoseconds + (ulong)Elapsed);

    /// <summary>Whether the TSC that the state was captured with is taken for the one of this host, still counting.</summary>
    public static bool IsOneTsc(KvmTscState source, KvmHostIdentity host, ulong hostTscNow) =>
        TscJudge.Judge(source, host) != TscContinuity.Broken && hostTscNow >= source.HostTsc;

    /// <summary>The time since the capture, in nanoseconds: by the TSC where it is one and to be gone by, else by both hosts' CLOCK_REALTIME.</summary>
    public static long DowntimeOf(KvmTscState source, KvmHostIdentity host, bool byTsc, ulong hostTscNow, ulong realtimeNow) => byTsc
        ? (long)PvclockScale.ToNanoseconds(host.TscKHz).Apply(hostTscNow - source.HostTsc)
        : TscArithmetic.Distance(source.RealtimeNanoseconds, realtimeNow);

    /// <summary>What residuals are measured by: where the downtime does not count, nothing is asked of the clocks that tell it.</summary>
    public static ResidualMeasure MeasureOf(TscDowntime downtime, bool isOneTsc) =>
        isOneTsc || downtime == TscDowntime.Exclude ? ResidualMeasure.HostTsc : ResidualMeasure.Realtime;

    /// <summary>The time that is to have passed for the guest, in nanoseconds.</summary>
    /// <param name="downtime">Whether the downtime counts.</param>
    /// <param name="sinceCapture">The downtime.</param>
    /// <param name="sinceSetting">The time since kvmclock was set.</param>
    public static long ElapsedOf(TscDowntime downtime, long sinceCapture, long sinceSetting) =>
        downtime == TscDowntime.Count ? sinceCapture : sinceSetting;

    /// <summary>The guest TSC of one of the source's vCPUs.</summary>
    public ulong ExpectedGuestTsc(KvmVcpuTscState vcpu) => _isSourcesTsc
        ? TscArithmetic.GuestTsc(_now.HostTsc, vcpu.Ratio, unchecked((ulong)vcpu.OffsetTicks))
        : unchecked(SourceGuestTsc(_source, vcpu) + (ulong)TscArithmetic.TicksIn(Elapsed, vcpu.TscKHz));

    /// <summary>The guest TSC of a vCPU at the capture.</summary>
    public static ulong SourceGuestTsc(KvmTscState source, KvmVcpuTscState vcpu) =>
        TscArithmetic.GuestTsc(source.HostTsc, vcpu.Ratio, unchecked((ulong)vcpu.OffsetTicks));

    /// <summary>The offset that a vCPU is given without asking a clock: on one TSC, scaled alike, it is the source's.</summary>
    public static long? ExactOffset(KvmVcpuTscState vcpu, TscRestoreOptions options, HostTscTraits hostTsc, bool isOneTsc) =>
        options.Method == TscMethod.Best && options.Downtime == TscDowntime.Count && isOneTsc && hostTsc.RatioAt(vcpu.TscKHz) == vcpu.Ratio
            ? vcpu.OffsetTicks
            : null;

    /// <summary>Whether all vCPUs are given theirs so.</summary>
    public static bool IsExact(KvmTscState source, TscRestoreOptions options, HostTscTraits hostTsc, bool isOneTsc) =>
        source.Vcpus.All(vcpu => ExactOffset(vcpu, options, hostTsc, isOneTsc) is not null);

    /// <summary>
    /// What the inputs allow, but for the time that KVM_SET_CLOCK takes. Where one TSC tells all, nothing but the rounding of two readings; else over the time
    /// that passed a kHz of rounding, the slewing of CLOCK_REALTIME, and what a guest within KVM's tolerance ran beside its frequency on the source; between
    /// hosts what either clock may have been off by, without a limit for one that nobody keeps, and a leap second; on one TSC what CLOCK_REALTIME, where it is
    /// gone by, differs from it.
    /// </summary>
    internal static double BoundOf(
        KvmTscState source, TscRestoreOptions options, HostTscTraits hostTsc, KvmHostIdentity host, bool isOneTsc, (HostInstant Now, long Elapsed) at)
    {
        const double PvclockPpm = 0.001;
        const double RoundingNanoseconds = 3; // kvmclock is rounded down at each of two shifts, by KVM from another moment than here
        if (IsExact(source, options, hostTsc, isOneTsc))
            return RoundingNanoseconds;
        var slowest = source.Vcpus.Min(vcpu => vcpu.TscKHz);
        var unscaled = source.Vcpus.Max(vcpu => Math.Abs((vcpu.Ratio.ScaleFrequency(source.Host.TscKHz) / vcpu.TscKHz) - 1)) * 1e6;
        var ppm = (1e6 / slowest) + PvclockPpm + unscaled + Math.Max(Math.Abs(source.Host.SlewPpm), Math.Abs(host.SlewPpm));
        var clocks = options.Downtime == TscDowntime.Exclude ? 0
            : isOneTsc ? Disagreement(source, host, at.Now)
            : ErrorBetween(source.Host, host);
        return ((Math.Abs((double)at.Elapsed) + clocks) * ppm / 1e6) + clocks;
    }

    /// <summary>By how much CLOCK_REALTIME, by which the documented algorithm goes also there, and a TSC that went on differ about the time between.</summary>
    private static double Disagreement(KvmTscState source, KvmHostIdentity host, HostInstant now) =>
        Math.Abs((double)DowntimeOf(source, host, byTsc: true, now.HostTsc, now.Realtime) - DowntimeOf(source, host, byTsc: false, now.HostTsc, now.Realtime));

    /// <summary>
    /// By how much kvmclock, as KVM tells it, can be off what the guest saw, in nanoseconds. Where the TSC is scaled, the guest computes it from its own frequency,
    /// which KVM rounds down to kHz, and KVM_GET_CLOCK from the host's: they part from the moment at which KVM last took its master clock, which it does not
    /// tell. That is no longer ago than kvmclock counts.
    /// </summary>
    /// <param name="source">The state.</param>
    /// <param name="elapsed">The time that is to have passed for the guest since, in nanoseconds.</param>
    internal static double ScaledClockError(KvmTscState source, long elapsed) => ScaledClockPpm(source) / 1e6 * (source.ClockNanoseconds + Math.Abs((double)elapsed));

    /// <summary>The rate at which they part, in parts per million.</summary>
    internal static double ScaledClockPpm(KvmTscState source) => source.Vcpus.Max(vcpu => Math.Abs(vcpu.Ratio.KvmclockPpm(source.Host.TscKHz)));

    /// <summary>By how much CLOCK_REALTIME of two hosts may differ, in nanoseconds.</summary>
    private static double ErrorBetween(KvmHostIdentity source, KvmHostIdentity destination) => source.ClockSynchronized && destination.ClockSynchronized
        ? ((source.MaxErrorMicroseconds + destination.MaxErrorMicroseconds) * 1e3) + (RealtimeRules.TaiChangeSeconds(source, destination) * 1e9)
        : double.PositiveInfinity;
}
