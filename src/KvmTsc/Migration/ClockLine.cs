using KvmTsc.Arithmetic;
using KvmTsc.Hosts;
using KvmTsc.Interop;

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

    /// <param name="source">The state.</param>
    /// <param name="downtime">Whether the time since then is to have passed for the guest.</param>
    /// <param name="host">The destination's host.</param>
    /// <param name="setting">The destination's clock, read before it was set, and after.</param>
    /// <param name="now">The destination's clock.</param>
    public ClockLine(
        KvmTscState source, TscDowntime downtime, KvmHostIdentity host, (KvmClockData Before, KvmClockData After) setting, KvmClockData now)
    {
        _source = source;
        _now = now;
        _toNanoseconds = PvclockScale.ToNanoseconds(host.TscKHz);
        var isOneTsc = IsOneTsc(source, host, now.HostTsc);
        Downtime = DowntimeOf(source, host, isOneTsc, now.HostTsc, now.Realtime);
        _isSourcesTsc = isOneTsc && downtime == TscDowntime.Count;
        MeasuredBy = MeasureOf(downtime, isOneTsc);
        Elapsed = ElapsedOf(downtime, Downtime, (long)_toNanoseconds.Apply(now.HostTsc - setting.Before.HostTsc));
        ErrorBoundNanoseconds = BoundOf(source, host, MeasuredBy, Elapsed) + _toNanoseconds.Apply(setting.After.HostTsc - setting.Before.HostTsc);
    }

    public ResidualMeasure MeasuredBy { get; }

    /// <summary>The time since the capture, in nanoseconds.</summary>
    public long Downtime { get; }

    /// <summary>The time that is to have passed for the guest, in nanoseconds.</summary>
    public long Elapsed { get; }

    public double ErrorBoundNanoseconds { get; }

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

    /// <summary>
    /// What the inputs allow: over the time that passed a kHz of rounding, the slewing of CLOCK_REALTIME, and what a guest within KVM's
    /// tolerance ran beside its frequency on the source; between hosts what either clock may have been off by, without a limit for one that nobody
    /// keeps, and a leap second. The time that KVM_SET_CLOCK took comes on top.
    /// </summary>
    internal static double BoundOf(KvmTscState source, KvmHostIdentity host, ResidualMeasure measure, long elapsed)
    {
        const double PvclockPpm = 0.001;
        var slowest = source.Vcpus.Min(vcpu => vcpu.TscKHz);
        var unscaled = source.Vcpus.Max(vcpu => Math.Abs((vcpu.Ratio.ScaleFrequency(source.Host.TscKHz) / vcpu.TscKHz) - 1)) * 1e6;
        var ppm = (1e6 / slowest) + PvclockPpm + unscaled + Math.Max(Math.Abs(source.Host.SlewPpm), Math.Abs(host.SlewPpm));
        var clocks = measure == ResidualMeasure.HostTsc ? 0 : ErrorBetween(source.Host, host);
        return (Math.Abs((double)elapsed) * ppm / 1e6) + clocks;
    }

    /// <summary>By how much CLOCK_REALTIME of two hosts may differ, in nanoseconds.</summary>
    private static double ErrorBetween(KvmHostIdentity source, KvmHostIdentity destination) => source.ClockSynchronized && destination.ClockSynchronized
        ? ((source.MaxErrorMicroseconds + destination.MaxErrorMicroseconds) * 1e3) + (RealtimeRules.TaiChangeSeconds(source, destination) * 1e9)
        : double.PositiveInfinity;
}
