namespace KvmTsc.Processes;

/// <summary>What this process may do to others, as it is now: read once, it serves for a list of VMs.</summary>
public sealed class OwnRights
{
    private OwnRights(ProcessStatus status, int? ptraceScope)
    {
        Status = status;
        PtraceScope = ptraceScope;
    }

    /// <summary>The calling thread, as /proc shows it.</summary>
    internal ProcessStatus Status { get; }

    /// <summary>Yama's ptrace_scope, null without Yama.</summary>
    internal int? PtraceScope { get; }

    /// <summary>Looks; null where /proc does not show this process.</summary>
    public static OwnRights? Read() => ProcessStatus.Read("/proc/thread-self") is { } status ? new OwnRights(status, Yama.PtraceScope) : null;
}
