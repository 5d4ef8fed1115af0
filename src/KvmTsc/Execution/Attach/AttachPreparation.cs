using KvmTsc.Interop;
using KvmTsc.Processes;

namespace KvmTsc.Execution.Attach;

/// <summary>
/// All that can be found out, and refused, about a process before anything in it is stopped: nothing here touches it.
/// </summary>
internal sealed class AttachPreparation : IDisposable
{
    // Ignored unless a program handles them, so sending one to itself does nothing to a thread that nobody traces.
    private static readonly int[] s_signals = [23, 28, 17]; // SIGURG, SIGWINCH, SIGCHLD

    private readonly List<int> _neverRan;
    private readonly ProcessThreads _threads;

    private AttachPreparation(AttachTarget target, AttachCircumstances circumstances, SafeDescriptor memory)
    {
        Target = target;
        _threads = new ProcessThreads(target.ProcessId);
        Memory = memory;
        Maps = ReadMaps(target);
        ProcessInnermostId = circumstances.Target.InnermostId;
        IsFiltered = circumstances.Threads.Any(thread => thread.IsFiltered);
        MapsFile = SELinux.Forbids(target.ProcessId, "process", "execmem");
        Signal = Array.Find(s_signals, signal => !circumstances.Target.Catches(signal));
        Instructions = Attach.Instructions.Find(Maps, memory) ?? default;
        DataLength = (0x4000 + (target.VcpuDescriptors.Count * 2048) + 0xFFF) & ~0xFFF;
        Address = Maps.FindFree((ulong)Length);
        _neverRan = [.. target.VcpuDescriptors.Keys];
        VcpuIds = target.VcpuDescriptors.SelectMany(vcpu => vcpu.Value.Select(descriptor => (descriptor, vcpu.Key))).ToDictionary();
        VcpuThreads = FindStarted();
        Refuse(circumstances.Target);
    }

    public AttachTarget Target { get; }

    /// <summary>The vCPU of each descriptor.</summary>
    public IReadOnlyDictionary<int, int> VcpuIds { get; }

    /// <summary>The process's memory.</summary>
    public SafeDescriptor Memory { get; }

    public ProcessMaps Maps { get; }

    public Instructions Instructions { get; }

    /// <summary>Where the payload goes.</summary>
    public ulong Address { get; }

    /// <summary>How much of the payload is data.</summary>
    public int DataLength { get; }

    /// <summary>How long the payload is.</summary>
    public int Length => Payload.DataOffset + DataLength;

    /// <summary>The process as it knows itself.</summary>
    public int ProcessInnermostId { get; }

    /// <summary>The signal that the payload sends to itself when it is done.</summary>
    public int Signal { get; }

    /// <summary>Whether any of its threads is under a seccomp filter.</summary>
    public bool IsFiltered { get; }

    /// <summary>Whether the process may have no executable memory but that of files.</summary>
    public bool MapsFile { get; }

    /// <summary>The threads that run vCPUs, of those that ever ran; null where they cannot be told from the others.</summary>
    public IReadOnlyList<int>? VcpuThreads { get; }

    /// <summary>Whether all vCPUs' threads are known.</summary>
    public bool KnowsAll => _neverRan.Count == 0;

    /// <summary>Finds out; nothing in the process is touched.</summary>
    /// <exception cref="KvmException">One cannot work in this process.</exception>
    public static AttachPreparation Of(AttachTarget target)
    {
        if (AttachCircumstances.Read(target.ProcessId) is not { } circumstances || StartTimeOf(target.ProcessId) != target.StartTime)
            throw Gone(target);
        if (circumstances.FindObstacle() is { } obstacle)
            throw obstacle.ToException();
        var descriptor = LibC.Open($"/proc/{target.ProcessId}/mem", LibC.O_RDWR | LibC.O_CLOEXEC);
        if (descriptor < 0)
            throw AttachErrors.Denied(target, -descriptor);
        var memory = new SafeDescriptor(descriptor);
        try
        {
            return new AttachPreparation(target, circumstances, memory);
        }
        catch (Exception exception)
        {
            memory.Dispose();
            if (exception is KvmException)
                _ = ReadMaps(target); // one that has begun to end has no memory any more, whatever it was refused for
            throw;
        }
    }

    /// <summary>The ids of the threads there are now.</summary>
    public IReadOnlyList<int> ThreadIds() => _threads.Read();

    /// <summary>What is known of a thread, null if it has ended.</summary>
    public ProcessStatus? StatusOf(int threadId) => ProcessStatus.Read($"/proc/{Target.ProcessId}/task/{threadId}");

    /// <summary>Whether a thread has ended; one that is just ending can no more be traced than one that is not there.</summary>
    public bool HasEnded(int threadId) => StatusOf(threadId) is null or { IsDead: true };

    /// <summary>Begins to trace a thread; null if it has ended, or is the calling thread's already.</summary>
    /// <exception cref="KvmException">It is another tracer's, or the kernel does not let us.</exception>
    public Tracee? Seize(int threadId, int options)
    {
        for (var isFirst = true; ; isFirst = false)
        {
            if (StatusOf(threadId) is not { IsDead: false } status || status.TracerId == LibC.Gettid())
                return null;
            if (Tracee.Seize(threadId, status.InnermostId, options, out var errno) is { } thread)
                return thread;
            if (StatusOf(threadId) is not { IsDead: false } now || now.TracerId == LibC.Gettid())
                return null;
            if (Tracer.Of([now]) is { } tracer)
                throw tracer.InTheWayOf(Target.ProcessId).ToException();
            if (!isFirst) // a tracer may have gone in between
                throw AttachErrors.Denied(Target, errno);
        }
    }

    /// <summary>
    /// The threads of the vCPUs that have run, but had not when this was last asked; null where debugfs does not tell. That of one that never ran is
    /// not known: any may become its.
    /// </summary>
    public IReadOnlyList<int>? FindStarted()
    {
        if (Target.DebugfsDirectory is not { } directory)
            return null;
        var threads = new HashSet<int>();
        foreach (var vcpuId in _neverRan.ToArray())
        {
            if (KernelFiles.ReadNumber($"{directory}/vcpu{vcpuId}/pid") is not { } thread)
                return null;
            if (thread == 0)
                continue;
            threads.Add((int)thread);
            _neverRan.Remove(vcpuId);
        }

        return [.. threads];
    }

    /// <summary>
    /// The threads that will run the vCPUs: those that did, else those that are named so. None where that is not told, or nobody could tell that another did.
    /// </summary>
    public IReadOnlyList<int> FindVcpuThreads() =>
        (KnowsAll || VcpuThreads is null ? VcpuThreads : VcpuThreadNames.Find(Target.ProcessId, ThreadIds(), Target.VcpuDescriptors.Count)) ?? [];

    /// <summary>The threads that might carry a batch without running a vCPU, those first that would notice least of it.</summary>
    public IReadOnlyList<int> FindLenders() =>
        [.. from id in ThreadIds()
            where StatusOf(id) is { State: not 'D', IsDead: false }
            let rank = SystemCall.Read(Target.ProcessId, id) is { } call ? Interruption.LenderRank(call) : null
            where rank is not null
            orderby rank, id == Target.ProcessId
            select id];

    /// <summary>A thread's id as its process knows it.</summary>
    public int InnermostIdOf(int threadId) => StatusOf(threadId)?.InnermostId ?? threadId;

    /// <summary>Refuses if the process is another one by now.</summary>
    public void RequireSameProcess()
    {
        if (StartTimeOf(Target.ProcessId) != Target.StartTime)
            throw Gone(Target);
    }

    public void Dispose() => Memory.Dispose();

    internal static ulong? StartTimeOf(int processId) => ProcessStat.Read($"/proc/{processId}")?.StartTime;

    private static ProcessMaps ReadMaps(AttachTarget target)
    {
        try
        {
            var maps = ProcessMaps.Read(target.ProcessId);
            return maps.All.Count > 0 ? maps : throw Gone(target);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            throw Gone(target);
        }
    }

    private void Refuse(ProcessStatus status)
    {
        var name = $"{Target.VMName} (process {Target.ProcessId})";
        if (status.State is 'T')
            throw AttachErrors.Unsupported($"{name} is stopped by a signal (SIGSTOP).", $"Let it go on first: kill -CONT {Target.ProcessId}.");
        if (Signal == 0)
            throw AttachErrors.Unsupported($"{name} handles SIGURG, SIGWINCH and SIGCHLD itself, one of which is needed.", "Nothing can be done about it from outside.");
        if (Instructions == default)
            throw AttachErrors.Unsupported($"{name} has no code that returns from a system call or from a signal handler.", "Nothing can be done about it from outside.");
        if (status.HasShadowStack)
            throw AttachErrors.Unsupported($"{name} guards its return addresses by a shadow stack.", "Start it without (GLIBC_TUNABLES=glibc.cpu.x86_shstk=off).");
        if (!X86Xsave)
            throw AttachErrors.Unsupported("This CPU has no XSAVE.", "Run this on a host with a CPU made after 2012.");
    }

    private static bool X86Xsave => (System.Runtime.Intrinsics.X86.X86Base.CpuId(1, 0).Ecx >> 27 & 1) != 0;

    private static KvmException Gone(AttachTarget target) => new(
        KvmErrorId.ProcessGone, $"{target.VMName} is gone: process {target.ProcessId} has ended.", "List the VMs there are with Get-KvmVM.");
}
