namespace KvmTsc.Migration.Preflight;

/// <summary>Whether a migration would work, and how exactly.</summary>
public sealed class KvmTscMigrationTest
{
    internal KvmTscMigrationTest(MigrationSubject source, MigrationSubject destination, MigrationForecast? forecast, IReadOnlyList<KvmTscFinding> findings)
    {
        SourceVMName = source.VMName;
        SourceMachineName = source.MachineName;
        SourceStoppedMicroseconds = source.StoppedMicroseconds;
        VMName = destination.VMName;
        MachineName = destination.MachineName;
        StoppedMicroseconds = destination.StoppedMicroseconds;
        MeasuredBy = forecast?.MeasuredBy;
        DowntimeNanoseconds = forecast?.DowntimeNanoseconds;
        ErrorBoundNanoseconds = forecast?.ErrorBoundNanoseconds;
        ClockErrorBoundNanoseconds = forecast?.ErrorBoundNanoseconds + forecast?.ScaledClockErrorNanoseconds;
        DriftPpm = forecast?.DriftPpm;
        Findings = findings.OrderByDescending(finding => finding.Severity).ToArray();
    }

    /// <summary>The VM that the clocks are of.</summary>
    public string? SourceVMName { get; }

    /// <summary>The host that the clocks are of.</summary>
    public string? SourceMachineName { get; }

    /// <summary>The VM that is to get them, null where only its host was looked at.</summary>
    public string? VMName { get; }

    /// <summary>The host that it is on.</summary>
    public string? MachineName { get; }

    /// <summary>Whether the migration would be done: there is no finding of severity Error.</summary>
    public bool Passed => Findings.All(finding => finding.Severity != FindingSeverity.Error);

    /// <summary>By what the time in between would be measured; null where the source could not be read.</summary>
    public ResidualMeasure? MeasuredBy { get; }

    /// <summary>The downtime: the time since the capture, and what was asked for. The bound is for it if it counts.</summary>
    public long? DowntimeNanoseconds { get; }

    /// <summary>How far off the clocks can be by the inputs, but for the time that setting kvmclock takes.</summary>
    public double? ErrorBoundNanoseconds { get; }

    /// <summary>The same for kvmclock as the guest sees it: more where the source's TSC is scaled, since KVM does not tell quite what such a guest sees.</summary>
    public double? ClockErrorBoundNanoseconds { get; }

    /// <summary>By how much the guest's TSC will be faster than it was on the source, in parts per million; null where it cannot be had.</summary>
    public double? DriftPpm { get; }

    /// <summary>The same in seconds per day.</summary>
    public double? DriftSecondsPerDay => DriftPpm * MigrationForecast.SecondsPerDay;

    /// <summary>Everything that was found, what is worst first.</summary>
    public IReadOnlyList<KvmTscFinding> Findings { get; }

    /// <summary>For how long the source's VMM was stopped for this, in microseconds; null if it was a state that was looked at, also one that another host captured for it.</summary>
    public double? SourceStoppedMicroseconds { get; }

    /// <summary>For how long the destination's VMM was stopped for this, in microseconds; null if that failed.</summary>
    public double? StoppedMicroseconds { get; }
}
