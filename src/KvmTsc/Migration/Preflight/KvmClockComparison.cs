using KvmTsc.Hosts;

namespace KvmTsc.Migration.Preflight;

/// <summary>By how much the destination's CLOCK_REALTIME is ahead of the source's, by asking each for the time.</summary>
public sealed class KvmClockComparison
{
    /// <summary>Creates a comparison.</summary>
    public KvmClockComparison(double aheadNanoseconds, double uncertaintyNanoseconds)
    {
        AheadNanoseconds = aheadNanoseconds;
        UncertaintyNanoseconds = uncertaintyNanoseconds;
    }

    /// <summary>A clock compared with itself.</summary>
    public static KvmClockComparison Same { get; } = new(0, 0);

    /// <summary>What was found, negative where the destination's is behind.</summary>
    public double AheadNanoseconds { get; }

    /// <summary>How far off that may be: nothing tells when, between question and answer, a clock was read.</summary>
    public double UncertaintyNanoseconds { get; }

    /// <summary>Compares a clock with this host's by its answer, which it gave between question and answer; all in ticks of 100 ns.</summary>
    public static KvmClockComparison OfAnswer(long asked, long answer, long answered)
    {
        const double NanosecondsPerTick = 100;
        var width = answered - asked;
        return new((answer - asked - (width / 2.0)) * NanosecondsPerTick, width * NanosecondsPerTick / 2);
    }

    /// <summary>Compares a destination's clock with a source's, of which each was compared with a third host's.</summary>
    public static KvmClockComparison Between(KvmClockComparison source, KvmClockComparison destination) =>
        new(destination.AheadNanoseconds - source.AheadNanoseconds, destination.UncertaintyNanoseconds + source.UncertaintyNanoseconds);

    /// <summary>Refuses clocks that are farther apart than both claim to be off, together: one of the claims is wrong.</summary>
    internal void RefuseDisagreement(KvmHostIdentity source, KvmHostIdentity destination)
    {
        var claimed = (source.MaxErrorMicroseconds + destination.MaxErrorMicroseconds) * 1e3;
        if (Math.Abs(AheadNanoseconds) - UncertaintyNanoseconds <= claimed)
            return;
        throw new KvmException(
            KvmErrorId.ClocksDisagree,
            FormattableString.Invariant(
                $"CLOCK_REALTIME of {destination.MachineName} is {Math.Abs(AheadNanoseconds) / 1e6:N3} ms {(AheadNanoseconds < 0 ? "behind" : "ahead of")} that of {source.MachineName}, measured to {UncertaintyNanoseconds / 1e6:N3} ms; together they claim to be off by at most {claimed / 1e6:N3} ms."),
            "Find out which one is wrong (chronyc sources, chronyc tracking) and have it synchronised. Use -Force to move the guest's time by the difference.");
    }
}
