namespace KvmTsc.Processes;

/// <summary>The threads of a process that run its program: those of the kernel's that count among them can neither be stopped nor lend themselves.</summary>
/// <param name="processId">The process.</param>
internal sealed class ProcessThreads(int processId)
{
    private readonly HashSet<int> _own = [];
    private readonly HashSet<int> _workers = [];

    /// <summary>The ids of those there are now. What a thread is it stays, so that each is looked at once.</summary>
    public IReadOnlyList<int> Read() => [.. NumberedDirectory.Read($"/proc/{processId}/task").Where(IsOwn)];

    private bool IsOwn(int threadId)
    {
        if (_own.Contains(threadId))
            return true;
        if (_workers.Contains(threadId))
            return false;
        var isWorker = ProcessStat.Read($"/proc/{processId}/task/{threadId}")?.IsKernelWorker ?? false;
        return (isWorker ? _workers : _own).Add(threadId) && !isWorker;
    }
}
