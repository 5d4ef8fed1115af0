namespace KvmTsc.Processes;

/// <summary>Who traces a process: it can have only one tracer.</summary>
/// <param name="ThreadId">The tracing thread.</param>
/// <param name="Name">What it is called, null if that cannot be read.</param>
internal sealed record Tracer(int ThreadId, string? Name)
{
    /// <summary>What the threads are called that trace for KvmTsc, which is at most 15 bytes.</summary>
    public const string OfKvmTsc = "KvmTsc tracer";

    /// <summary>Whether it is another KvmTsc: that stays for some milliseconds, unless it waits for a VM to be resumed.</summary>
    public bool IsKvmTsc => Name == OfKvmTsc;

    /// <summary>The tracer of a process's threads, null without one.</summary>
    public static Tracer? Of(IEnumerable<ProcessStatus> threads) =>
        threads.FirstOrDefault(thread => thread.TracerId != 0) is { TracerId: var id } ? new Tracer(id, KernelFiles.ReadLine($"/proc/{id}/comm")) : null;

    /// <summary>The tracer of a process, null without one.</summary>
    public static Tracer? Of(int processId) => Of(ProcessStatus.ReadThreads(processId));

    /// <summary>What it keeps others from.</summary>
    /// <param name="processId">The process that it traces.</param>
    public AttachObstacle InTheWayOf(int processId) => IsKvmTsc
        ? new AttachObstacle(
            KvmErrorId.BusyWithKvmTsc,
            $"Another KvmTsc command is at work in process {processId} (thread {ThreadId}), or waits there for the VM to be resumed.",
            "Resume the VM, or end that command (Watch-KvmClock -Correct, or one with -AtResume), then try again.")
        : new AttachObstacle(
            KvmErrorId.AlreadyTraced,
            $"Process {processId} is traced by {Name ?? "another process"} ({ThreadId}), and a process has only one tracer.",
            "End that debugger or trace (detach), then try again.");
}
