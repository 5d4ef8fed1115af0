using System.Globalization;
using System.Text.RegularExpressions;
using KvmTsc.Interop;

namespace KvmTsc.Tests.Discovery;

/// <summary>How many system calls something takes, by the kernel's own count of this thread's: a tracepoint with a histogram.</summary>
internal sealed partial class SystemCallCount : IDisposable
{
    private const string Instance = "/sys/kernel/debug/tracing/instances/kvmtsc-tests";
    private const string Event = $"{Instance}/events/raw_syscalls/sys_enter";

    private const int Times = 5;

    private readonly string _trigger = string.Create(CultureInfo.InvariantCulture, $"hist:keys=id if common_pid == {LibC.Gettid()}");

    public SystemCallCount() => Directory.CreateDirectory(Instance);

    public void Dispose() => Directory.Delete(Instance);

    /// <summary>
    /// Counts what an action takes, once it has been done before. The runtime has system calls of its own now and then, within the action and within what looks at the
    /// count: of each the least of some counts.
    /// </summary>
    public int Of(Action action)
    {
        action();
        File.WriteAllText($"{Event}/trigger", _trigger);
        try
        {
            return Least(action) - Least(() => { });
        }
        finally
        {
            File.WriteAllText($"{Event}/trigger", $"!{_trigger}");
        }
    }

    private static int Least(Action action) => Enumerable.Range(0, Times).Min(_ => Between(action));

    private static int Between(Action action)
    {
        var before = Hits();
        action();
        return Hits() - before;
    }

    private static int Hits() => int.Parse(HitsLine().Match(File.ReadAllText($"{Event}/hist")).Groups["count"].ValueSpan, CultureInfo.InvariantCulture);

    [GeneratedRegex(@"Hits: (?<count>\d+)")]
    private static partial Regex HitsLine();
}
