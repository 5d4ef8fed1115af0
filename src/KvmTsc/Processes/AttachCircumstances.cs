using KvmTsc.Interop;

namespace KvmTsc.Processes;

/// <summary>
/// What decides whether this process may work inside another one, as far as procfs tells without touching it: the rules of
/// ptrace_may_access in kernel/ptrace.c, of Yama, and of PTRACE_O_SUSPEND_SECCOMP. User namespaces are left aside: what counts is whether
/// the kernel lets us.
/// </summary>
internal sealed record AttachCircumstances
{
    /// <summary>The process.</summary>
    public int ProcessId { get; init; }

    /// <summary>This process.</summary>
    public ProcessStatus Own { get; init; } = new();

    /// <summary>The other one.</summary>
    public ProcessStatus Target { get; init; } = new();

    /// <summary>The other one's threads, that one's main thread among them.</summary>
    public IReadOnlyList<ProcessStatus> Threads { get; init; } = [];

    /// <summary>Yama's ptrace_scope, null without Yama.</summary>
    public int? PtraceScope { get; init; }

    /// <summary>Whether the other one descends from this one.</summary>
    public bool IsDescendant { get; init; }

    /// <summary>Whether both are of one user namespace, where capabilities compare.</summary>
    public bool IsSameUserNamespace { get; init; } = true;

    /// <summary>Whether this one is of the first user namespace: only its administrators may have filters suspended.</summary>
    public bool IsInitialUserNamespace { get; init; } = true;

    /// <summary>Whether the kernel can suspend filters (CONFIG_CHECKPOINT_RESTORE).</summary>
    public bool CanSuspendFilters { get; init; } = true;

    /// <summary>The control group that freezes it, null if none does.</summary>
    public string? FreezingGroup { get; init; }

    /// <summary>Whether its program is x86-64.</summary>
    public bool IsX64 { get; init; } = true;

    /// <summary>Looks at a process; null if it is gone. What makes no difference, given the rest, is not looked at.</summary>
    /// <param name="processId">The process.</param>
    /// <param name="rights">What this process may, null to look at that as well.</param>
    public static AttachCircumstances? Read(int processId, OwnRights? rights = null)
    {
        var directory = $"/proc/{processId}";
        IReadOnlyList<ProcessStatus> threads = [.. ProcessStatus.ReadThreads(processId)];
        if (threads.FirstOrDefault(thread => thread.ThreadId == processId) is not { } target || (rights ?? OwnRights.Read()) is not { Status: var own, PtraceScope: var scope })
            return null;
        var isFiltered = threads.Any(thread => thread.IsFiltered);
        return new AttachCircumstances
        {
            ProcessId = processId,
            Own = own,
            Target = target,
            Threads = threads,
            PtraceScope = scope,
            IsDescendant = !own.MayTraceAny && Descends(processId),
            IsSameUserNamespace = own.MayTraceAny || KernelFiles.ReadLinkTarget($"{directory}/ns/user") == OwnUserNamespace,
            IsInitialUserNamespace = !isFiltered || OwnUserNamespace == InitialUserNamespace,
            CanSuspendFilters = !isFiltered || LibC.Exists(OnlyWithCheckpointRestore),
            FreezingGroup = Freezer.FreezingGroup(processId),
            IsX64 = ElfHeader.IsX64($"{directory}/exe") ?? true,
        };
    }

    /// <summary>What stands in the way, null if nothing is known to.</summary>
    public AttachObstacle? FindObstacle() => Dead() ?? NotX64() ?? Guarded() ?? Suspended() ?? Frozen() ?? Traced() ?? OtherUser() ?? MorePrivileged() ?? ForbiddenByYama() ?? Filtered();

    private const string InitialUserNamespace = "user:[4026531837]"; // PROC_USER_INIT_INO

    // CONFIG_CHECKPOINT_RESTORE also has the kernel show a process's timers.
    private const string OnlyWithCheckpointRestore = "/proc/self/timers";

    private static string? OwnUserNamespace => KernelFiles.ReadLinkTarget("/proc/thread-self/ns/user");

    private static bool Descends(int processId)
    {
        for (var id = processId; id > 1;)
        {
            if (ProcessStat.Read($"/proc/{id}") is not { } stat)
                return false;
            id = stat.ParentId;
            if (id == Environment.ProcessId)
                return true;
        }

        return false;
    }

    private AttachObstacle? Dead() => Target.IsDead
        ? new AttachObstacle(KvmErrorId.ProcessGone, $"Process {ProcessId} has ended.", "List the VMs there are with Get-KvmVM.")
        : null;

    private AttachObstacle? NotX64() => IsX64
        ? null
        : new AttachObstacle(
            KvmErrorId.AttachUnsupported, $"Process {ProcessId} is no x86-64 program.", "Run its VM under an x86-64 build of its VMM.");

    private AttachObstacle? Guarded() => Threads.Any(thread => thread.HasShadowStack)
        ? new AttachObstacle(
            KvmErrorId.AttachUnsupported,
            $"Process {ProcessId} guards its return addresses by a shadow stack.",
            "Start its VMM without (GLIBC_TUNABLES=glibc.cpu.x86_shstk=off).")
        : null;

    private AttachObstacle? Suspended() => Target.State == 'T'
        ? new AttachObstacle(
            KvmErrorId.AttachUnsupported, $"Process {ProcessId} is stopped by a signal (SIGSTOP).", $"Let it go on first: kill -CONT {ProcessId}.")
        : null;

    private AttachObstacle? Frozen() => FreezingGroup is { } group
        ? new AttachObstacle(
            KvmErrorId.AttachUnsupported,
            $"Process {ProcessId} is frozen by its control group ({group}).",
            $"Thaw it first: {Freezer.ThawingCommand(group)}, or docker unpause where it is a container's.")
        : null;

    private AttachObstacle? Traced() => Tracer.Of(Threads)?.InTheWayOf(ProcessId);

    private AttachObstacle? OtherUser()
    {
        if (Own.MayTraceAny || Own.UserIds.Count == 0 || Own.GroupIds.Count == 0)
            return null;
        var sameUser = Target.UserIds.Take(3).All(id => id == Own.UserIds[0]);
        var sameGroup = Target.GroupIds.Take(3).All(id => id == Own.GroupIds[0]);
        return sameUser && sameGroup
            ? null
            : new AttachObstacle(
                KvmErrorId.AttachDenied,
                $"Process {ProcessId} runs as another {(sameUser ? "group" : "user")} ({(sameUser ? Target.GroupIds[0] : Target.UserIds[0])}), and this one has no CAP_SYS_PTRACE.",
                "Run as root.");
    }

    private AttachObstacle? MorePrivileged() => Own.MayTraceAny || !IsSameUserNamespace || (Target.Permitted & ~Own.Permitted) == 0
        ? null
        : new AttachObstacle(
            KvmErrorId.AttachDenied,
            $"Process {ProcessId} has capabilities that this one has not, and this one has no CAP_SYS_PTRACE.",
            "Run as root.");

    private AttachObstacle? ForbiddenByYama() => PtraceScope switch
    {
        1 when !Own.MayTraceAny && !IsDescendant => Forbidden("only descendants may be traced without CAP_SYS_PTRACE", "Run as root."),
        2 when !Own.MayTraceAny => Forbidden("tracing needs CAP_SYS_PTRACE", "Run as root."),
        >= 3 => Forbidden("no process may be traced until the next boot", "Boot with another kernel.yama.ptrace_scope (see /etc/sysctl.d)."),
        _ => null,
    };

    private AttachObstacle Forbidden(string rule, string action) => new(
        KvmErrorId.AttachDenied, $"Process {ProcessId} may not be traced: kernel.yama.ptrace_scope is {PtraceScope}, where {rule}.", action);

    /// <summary>The kernel suspends a filter only for an administrator who is under none.</summary>
    private AttachObstacle? Filtered()
    {
        if (!Threads.Any(thread => thread.IsFiltered))
            return null;
        var (why, action) = this switch
        {
            { Own.IsAdministrator: false } => ("this process has no CAP_SYS_ADMIN", "Run as root."),
            { Own.IsFiltered: true } => ("this process has a filter itself", "Run outside of a container or of a service with a seccomp filter."),
            { IsInitialUserNamespace: false } => ("this process is root of a user namespace only", "Run as the host's root, outside of a container."),
            { CanSuspendFilters: false } => ("it was built without CONFIG_CHECKPOINT_RESTORE", "Start its VMM without its filter (QEMU: -sandbox off; Firecracker: --no-seccomp; cloud-hypervisor: --seccomp false)."),
            _ => (null, ""),
        };
        return why is null
            ? null
            : new AttachObstacle(
                KvmErrorId.SeccompFilter, $"Process {ProcessId} filters its system calls by seccomp, and the kernel does not suspend that: {why}.", action);
    }
}
