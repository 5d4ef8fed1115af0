using KvmTsc.Processes;

namespace KvmTsc.Execution.Attach;

/// <summary>
/// The order in which threads of a process are traced; they are let go in the reverse one. As long as a thread is traced, the kernel does not drop ignored
/// signals that come by it: by the first thread those to the process, and by one that has child processes the SIGCHLD of their ends. Such a signal ends a wait
/// of any thread, and only of those that are traced it is ours to restart.
/// </summary>
internal static class TracingOrder
{
    /// <summary>Puts threads in it.</summary>
    /// <param name="processId">Their process.</param>
    /// <param name="threadIds">The threads.</param>
    public static IEnumerable<int> Of(int processId, IEnumerable<int> threadIds) =>
        threadIds.OrderBy(id => id == processId ? 2 : HasChildren(processId, id) ? 1 : 0);

    /// <summary>Whether it does, as far as the kernel tells (CONFIG_PROC_CHILDREN).</summary>
    private static bool HasChildren(int processId, int threadId) => KernelFiles.ReadLine($"/proc/{processId}/task/{threadId}/children") is { Length: > 0 };
}
