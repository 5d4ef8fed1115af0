using KvmTsc.Arithmetic;
using KvmTsc.Hosts;

namespace KvmTsc.Migration;

/// <summary>Judges a <see cref="TscContinuity"/> by the clocks of the host, then and now.</summary>
internal static class TscJudge
{
    private const double SlewingPpm = 500; // by how much the kernel's clocks may be corrected, MAXFREQ in linux/timex.h
    private const double LeastNanoseconds = 1e6; // readings are taken one after another

    /// <summary>Judges.</summary>
    /// <param name="source">The state.</param>
    /// <param name="host">The host, now.</param>
    public static TscContinuity Judge(KvmTscState source, KvmHostIdentity host)
    {
        var then = source.Host;
        var byTsc = ByTsc(source, host);
        if (!then.IsSameBoot(host) || then.TscKHz != host.TscKHz || byTsc < 0)
            return TscContinuity.Broken;
        if (then.MonotonicRawNanoseconds is not null && host.MonotonicRawNanoseconds is not null)
        {
            if (!WasAwake(then, host) || !AgreesWithRaw(then, host))
                return TscContinuity.Broken;
            if (host.IsVirtual != true)
                return TscContinuity.Continuous; // that CLOCK_REALTIME says otherwise is because it was set
        }

        return Math.Abs(ByRealtime(source, host) - byTsc) <= Slack(then, host, byTsc) ? TscContinuity.Continuous : TscContinuity.Contradicted;
    }

    /// <summary>Refuses a TSC that CLOCK_REALTIME contradicts.</summary>
    /// <exception cref="KvmException">It does.</exception>
    public static void RefuseContradiction(KvmTscState source, KvmHostIdentity host)
    {
        if (Judge(source, host) != TscContinuity.Contradicted)
            return;
        throw new KvmException(
            KvmErrorId.ClocksDisagree,
            FormattableString.Invariant(
                $"Since the state of {source.VMName} was captured, {ByTsc(source, host) / 1e9:0.###} s have passed by the TSC of {host.MachineName}, {ByRealtime(source, host) / 1e9:0.###} s by its CLOCK_REALTIME: the clock was set meanwhile, or the host, a virtual machine itself, stood still."),
            "Find out which is right (chronyc tracking). Use -Force to go by the TSC, or set the guest's clocks by hand.");
    }

    private static double ByTsc(KvmTscState source, KvmHostIdentity host) =>
        Nanoseconds(TscArithmetic.Distance(source.HostTsc, host.HostTsc ?? source.HostTsc), host.TscKHz);

    private static double ByRealtime(KvmTscState source, KvmHostIdentity host) =>
        TscArithmetic.Distance(source.RealtimeNanoseconds, host.RealtimeNanoseconds ?? source.RealtimeNanoseconds);

    private static bool WasAwake(KvmHostIdentity then, KvmHostIdentity now) =>
        Math.Abs((double)TscArithmetic.Distance(then.SuspendedNanoseconds ?? 0, now.SuspendedNanoseconds ?? 0)) <= LeastNanoseconds;

    private static bool AgreesWithRaw(KvmHostIdentity then, KvmHostIdentity now)
    {
        var byTsc = Nanoseconds(TscArithmetic.Distance(then.HostTsc ?? 0, now.HostTsc ?? 0), now.TscKHz);
        var byRaw = (double)TscArithmetic.Distance(then.MonotonicRawNanoseconds ?? 0, now.MonotonicRawNanoseconds ?? 0);
        return Agree(byTsc, byRaw, LeastNanoseconds);
    }

    /// <summary>Whether a TSC counted for as long as CLOCK_BOOTTIME did, also while its host slept: for how long that was the host's RTC tells, to a second or two.</summary>
    /// <param name="byTsc">The time by the TSC, in nanoseconds.</param>
    /// <param name="byBootTime">The time by CLOCK_BOOTTIME.</param>
    public static bool WentOn(double byTsc, double byBootTime) => Agree(byTsc, byBootTime, 2e9);

    private static bool Agree(double byTsc, double byKernel, double leastNanoseconds) =>
        Math.Abs(byTsc - byKernel) <= leastNanoseconds + (Math.Abs(byKernel) * SlewingPpm / 1e6);

    /// <summary>What slewing, the errors that both readings of CLOCK_REALTIME may have, and a leap second explain.</summary>
    private static double Slack(KvmHostIdentity then, KvmHostIdentity now, double elapsed) => LeastNanoseconds
        + (elapsed * (SlewingPpm + (1e6 / now.TscKHz) + Math.Max(Math.Abs(then.SlewPpm), Math.Abs(now.SlewPpm))) / 1e6)
        + ((then.MaxErrorMicroseconds + now.MaxErrorMicroseconds) * 1e3)
        + (Math.Abs(then.TaiOffsetSeconds - now.TaiOffsetSeconds) * 1e9);

    private static double Nanoseconds(long ticks, uint kHz) => ticks * 1e6 / kHz;
}
