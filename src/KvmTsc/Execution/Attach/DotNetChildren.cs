using System.Reflection;
using KvmTsc.Processes;

namespace KvmTsc.Execution.Attach;

/// <summary>
/// Keeps .NET from waiting for the child processes of this one, which it does at every SIGCHLD. A VMM may be one, and while we trace its first
/// thread, waitpid tells .NET of that thread's stops, too. .NET (10) takes one for the child's end: it never waits for that child again, and
/// once it has ended, looks at it for ever, while nobody else can start a process.
/// </summary>
/// <remarks>
/// Nothing but the lock that .NET takes for it helps. A stop can be taken before .NET sees it, but not always; SIGCHLD can be turned off, but not for
/// as long as a resume is waited for, since others in this process wait for other children.
/// </remarks>
internal sealed class DotNetChildren : IDisposable
{
    private static readonly TimeSpan s_turn = TimeSpan.FromMilliseconds(1);

    private readonly object _lock;

    private DotNetChildren(object @lock)
    {
        _lock = @lock;
        Monitor.Enter(@lock);
    }

    /// <summary>The lock, null if this .NET has it no more.</summary>
    internal static object? Lock { get; } = Type.GetType("System.Diagnostics.ProcessWaitState, System.Diagnostics.Process")?
        .GetField("s_childProcessWaitStates", BindingFlags.NonPublic | BindingFlags.Static)?
        .GetValue(null);

    /// <summary>Whether a process is a child of this one.</summary>
    public static bool Include(int processId) =>
        ProcessStatus.Read($"/proc/{processId}") is { } status && status.ProcessId == processId && status.ParentId == Environment.ProcessId;

    /// <summary>Leaves them alone until it is disposed of, by the same thread. Null if that is not needed, or cannot be.</summary>
    /// <param name="processId">The process whose first thread will be traced.</param>
    public static DotNetChildren? LeaveAlone(int processId) => Lock is { } @lock && Include(processId) ? new DotNetChildren(@lock) : null;

    /// <summary>Lets .NET do what it has to, if anything. There must be no stop that it could see.</summary>
    public void GiveTurn()
    {
        Monitor.Exit(_lock);
        Thread.Sleep(s_turn);
        Monitor.Enter(_lock);
    }

    public void Dispose() => Monitor.Exit(_lock);
}
