using System.Diagnostics;
using KvmTsc.Interop;

namespace KvmTsc.Execution.Attach;

/// <summary>
/// Threads that ended while we traced them. The kernel keeps each until its tracer has waited for it, and does not tell the parent of its process
/// that this has ended before: a service manager would wait for its VMM for as long as PowerShell lives.
/// </summary>
internal static class EndedThreads
{
    private static readonly TimeSpan s_patience = TimeSpan.FromMilliseconds(100);
    private static readonly TimeSpan s_interval = TimeSpan.FromMilliseconds(10);
    private static readonly Lock s_gate = new();
    private static readonly List<int> s_remaining = [];

    /// <summary>Waits for a thread; one that is still ending is waited for in the background.</summary>
    public static void Bury(int threadId)
    {
        if (TryBury(threadId))
            return;
        lock (s_gate)
        {
            s_remaining.Add(threadId);
            if (s_remaining.Count == 1)
                new Thread(BuryRemaining) { IsBackground = true, Name = "KvmTsc ended threads" }.Start();
        }
    }

    /// <summary>Waits for those that are still ending, but not for long: one whose process dumps its core takes minutes.</summary>
    public static void Await()
    {
        var began = Stopwatch.GetTimestamp();
        while (!TryBuryRemaining() && Stopwatch.GetElapsedTime(began) < s_patience)
            Thread.Yield();
    }

    private static void BuryRemaining()
    {
        do
            Thread.Sleep(s_interval);
        while (!TryBuryRemaining());
    }

    private static bool TryBuryRemaining()
    {
        lock (s_gate)
        {
            s_remaining.RemoveAll(TryBury);
            return s_remaining.Count == 0;
        }
    }

    /// <summary>A child process of ours is for whoever started it to wait for: .NET, which ends itself if somebody else did.</summary>
    private static bool TryBury(int threadId) => DotNetChildren.Include(threadId) || LibC.WaitidEnded(threadId, isTaken: true);
}
