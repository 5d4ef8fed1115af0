using System.Diagnostics;

namespace KvmTsc.Tests.Discovery;

/// <summary>Waits for what another process will do, however slow the machine.</summary>
internal static class Until
{
    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(120);

    /// <summary>Asks again and again, until the answer will do.</summary>
    public static T True<T>(Func<T> ask, Func<T, bool> will)
    {
        var start = Stopwatch.GetTimestamp();
        while (true)
        {
            var answer = ask();
            if (will(answer))
                return answer;
            Assert.True(Stopwatch.GetElapsedTime(start) < s_patience, $"It did not come: still {answer}.");
            Thread.Yield();
        }
    }
}
