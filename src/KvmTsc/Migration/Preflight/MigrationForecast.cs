using KvmTsc.Arithmetic;
using KvmTsc.Hosts;
using KvmTsc.Machines;

namespace KvmTsc.Migration.Preflight;

/// <summary>How exact a migration would be.</summary>
/// <param name="MeasuredBy">By what the time in between would be measured.</param>
/// <param name="DowntimeNanoseconds">That time, whether it counts or not.</param>
/// <param name="ErrorBoundNanoseconds">How far off the clocks can be by the inputs.</param>
/// <param name="ScaledClockErrorNanoseconds">By how much more kvmclock can be off as the guest sees it.</param>
/// <param name="DriftPpm">By how much the guest's TSC will be faster than on the source; null where the destination cannot have its frequency.</param>
internal sealed record MigrationForecast(
    ResidualMeasure MeasuredBy, long DowntimeNanoseconds, double ErrorBoundNanoseconds, double ScaledClockErrorNanoseconds, double? DriftPpm)
{
    /// <summary>What a ppm makes in a day, in seconds.</summary>
    public const double SecondsPerDay = 0.0864;

    public static MigrationForecast Of(KvmTscState state, Machine destination, KvmHostIdentity host, TscRestoreOptions options, double secondsToCome)
    {
        var now = destination.HostNow;
        var isOneTsc = ClockLine.IsOneTsc(state, host, now.HostTsc);
        var measure = ClockLine.MeasureOf(options.Downtime, isOneTsc);
        var downtime = Math.Max(0, ClockLine.DowntimeOf(state, host, isOneTsc, now.HostTsc, now.Realtime)) + (long)(secondsToCome * 1e9);
        var elapsed = ClockLine.ElapsedOf(options.Downtime, downtime, sinceSetting: 0);
        var bound = ClockLine.BoundOf(state, options, destination.HostTsc, host, isOneTsc, (now, elapsed));
        var isExact = ClockLine.IsExact(state, options, destination.HostTsc, isOneTsc);
        return new MigrationForecast(measure, downtime, bound, ClockLine.ScaledClockError(state, elapsed), isExact ? 0 : DriftOf(state, destination));
    }

    private static double? DriftOf(KvmTscState state, Machine destination) => state.Vcpus.All(vcpu => destination.HostTsc.Supports(vcpu.TscKHz))
        ? state.Vcpus.Select(vcpu => DriftOf(state, vcpu, destination.HostTsc)).MaxBy(Math.Abs)
        : null;

    private static double DriftOf(KvmTscState state, KvmVcpuTscState vcpu, HostTscTraits destination)
    {
        var before = vcpu.Ratio.ScaleFrequency(state.Host.TscKHz);
        var after = destination.NeedsCatchUp(vcpu.TscKHz) ? vcpu.TscKHz : destination.RatioFor(vcpu.TscKHz).ScaleFrequency(destination.KHz);
        return ((after / before) - 1) * 1e6;
    }
}
