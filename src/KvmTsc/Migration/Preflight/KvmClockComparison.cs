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
}
