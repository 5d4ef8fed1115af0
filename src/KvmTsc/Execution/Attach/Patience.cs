using System.Diagnostics;

namespace KvmTsc.Execution.Attach;

/// <summary>
/// For how long we wait for threads of another process. Time in which we ourselves did not get to look hardly counts: on a host that has too much to do, it
/// says nothing of them.
/// </summary>
internal sealed class Patience(TimeSpan limit)
{
    /// <summary>What the steps of a stop get each, while others stand still.</summary>
    public static readonly TimeSpan OfStep = TimeSpan.FromSeconds(2);

    private static readonly TimeSpan s_mostBetweenLooks = TimeSpan.FromMilliseconds(20);
    private static readonly TimeSpan s_unusual = TimeSpan.FromMilliseconds(20);

    private readonly long _began = Stopwatch.GetTimestamp();
    private long _last = Stopwatch.GetTimestamp();
    private TimeSpan _counted;

    /// <summary>Whether it takes so long by now that it is worth a closer look.</summary>
    public bool IsUnusual => Stopwatch.GetElapsedTime(_began) > s_unusual;

    /// <summary>Whether it has taken too long; to be asked now and then.</summary>
    public bool IsOver()
    {
        var now = Stopwatch.GetTimestamp();
        var passed = Stopwatch.GetElapsedTime(_last, now);
        _last = now;
        _counted += passed < s_mostBetweenLooks ? passed : s_mostBetweenLooks;
        return _counted > limit;
    }
}
