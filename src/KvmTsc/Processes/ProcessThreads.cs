namespace KvmTsc.Processes;

/// <summary>The threads of a process that run its program: those of the kernel's that count among them can neither be stopped nor lend themselves.</summary>
/// <param name="processId">The process.</param>
internal sealed class ProcessThreads(int processId)
{
    private readonly Dictionary<int, bool> _isOwn = [];

    /// <summary>The ids of those there are now. What a thread is it stays, so that each is looked at once.</summary>
    public IReadOnlyList<int> Read() => NumberedDirectory.Read($"/proc/{processId}/task").FindAll(IsOwn);

    private bool IsOwn(int threadId)
    {
        if (!_isOwn.TryGetValue(threadId, out var isOwn))
            _isOwn.Add(threadId, isOwn = ProcessStat.Read($"/proc/{processId}/task/{threadId}") is not { IsKernelWorker: true });
        return isOwn;
    }
}
