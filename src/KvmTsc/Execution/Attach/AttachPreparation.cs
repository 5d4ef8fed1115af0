using System.Globalization;
using KvmTsc.Interop;

namespace KvmTsc.Execution.Attach;

/// <summary>
/// All that can be found out, and refused, about a process before anything in it is stopped: nothing here touches it.
/// </summary>
internal sealed class AttachPreparation : IDisposable
{
    // Ignored unless a program handles them, so sending one to itself does nothing to a thread that nobody traces.
    private static readonly int[] s_signals = [23, 28, 17]; // SIGURG, SIGWINCH, SIGCHLD

    private AttachPreparation(AttachTarget target, TargetStatus status, SafeDescriptor memory)
    {
        Target = target;
        Memory = memory;
        Maps = ReadMaps();
        ProcessInnermostId = status.InnermostId;
        SuspendsSeccomp = Threads().Any(thread => thread.Status.HasSeccomp);
        Signal = Array.Find(s_signals, signal => !status.Catches(signal));
        Instructions = Attach.Instructions.Find(Maps, memory) ?? default;
        DataLength = (0x4000 + (target.VcpuDescriptors.Count * 2048) + 0xFFF) & ~0xFFF;
        Address = Maps.FindFree((ulong)Length);
        VcpuThreads = FindVcpuThreads();
        Refuse(status);
    }

    public AttachTarget Target { get; }

    /// <summary>The process's memory.</summary>
    public SafeDescriptor Memory { get; }

    public ProcessMaps Maps { get; private set; }

    public Instructions Instructions { get; }

    /// <summary>Where the payload goes.</summary>
    public ulong Address { get; private set; }

    /// <summary>How much of the payload is data.</summary>
    public int DataLength { get; }

    /// <summary>How long the payload is.</summary>
    public int Length => Payload.DataOffset + DataLength;

    /// <summary>The process as it knows itself.</summary>
    public int ProcessInnermostId { get; }

    /// <summary>The signal that the payload sends to itself when it is done.</summary>
    public int Signal { get; }

    /// <summary>Whether a seccomp filter has to be suspended.</summary>
    public bool SuspendsSeccomp { get; }

    /// <summary>The threads that run vCPUs, null where they cannot be told from the others.</summary>
    public IReadOnlyList<int>? VcpuThreads { get; }

    /// <summary>Finds out; nothing in the process is touched.</summary>
    /// <exception cref="KvmException">One cannot work in this process.</exception>
    public static AttachPreparation Of(AttachTarget target)
    {
        var status = TargetStatus.Read($"/proc/{target.ProcessId}");
        if (status is null || status.State is 'Z' or 'X' || StartTimeOf(target.ProcessId) != target.StartTime)
            throw Gone(target);
        var descriptor = LibC.Open($"/proc/{target.ProcessId}/mem", LibC.O_RDWR | LibC.O_CLOEXEC);
        if (descriptor < 0)
            throw AttachErrors.Denied(target, status, -descriptor);
        var memory = new SafeDescriptor(descriptor);
        try
        {
            return new AttachPreparation(target, status, memory);
        }
        catch
        {
            memory.Dispose();
            throw;
        }
    }

    /// <summary>The threads there are now, with what is known of them.</summary>
    public IEnumerable<(int Id, TargetStatus Status)> Threads()
    {
        foreach (var id in ThreadIds())
        {
            if (TargetStatus.Read($"/proc/{Target.ProcessId}/task/{id}") is { } status)
                yield return (id, status);
        }
    }

    /// <summary>The ids of the threads there are now.</summary>
    public IEnumerable<int> ThreadIds()
    {
        try
        {
            return [.. Directory.EnumerateDirectories($"/proc/{Target.ProcessId}/task")
                .Select(path => int.Parse(Path.GetFileName(path), CultureInfo.InvariantCulture))];
        }
        catch (IOException)
        {
            return [];
        }
    }

    /// <summary>A thread's id as its process knows it.</summary>
    public int InnermostIdOf(int threadId) => TargetStatus.Read($"/proc/{Target.ProcessId}/task/{threadId}")?.InnermostId ?? threadId;

    /// <summary>Looks again at what the process's memory is like, after a long wait.</summary>
    public void Refresh()
    {
        Maps = ReadMaps();
        Address = Maps.FindFree((ulong)Length);
    }

    /// <summary>Refuses if the process is another one by now.</summary>
    public void RequireSameProcess()
    {
        if (StartTimeOf(Target.ProcessId) != Target.StartTime)
            throw Gone(Target);
    }

    public void Dispose() => Memory.Dispose();

    internal static ulong? StartTimeOf(int processId)
    {
        const int FieldsBeforeStartTime = 19;
        if (Machines.KernelFiles.ReadLine($"/proc/{processId}/stat") is not { } stat)
            return null;
        var fields = stat[(stat.LastIndexOf(')') + 2)..].Split(' ');
        return ulong.Parse(fields[FieldsBeforeStartTime], CultureInfo.InvariantCulture);
    }

    private ProcessMaps ReadMaps()
    {
        try
        {
            return ProcessMaps.Read(Target.ProcessId);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            throw Gone(Target);
        }
    }

    /// <summary>debugfs knows them; a vCPU that never ran has none yet, and then any thread may become its.</summary>
    private IReadOnlyList<int>? FindVcpuThreads()
    {
        if (Target.DebugfsDirectory is not { } directory)
            return null;
        var threads = new HashSet<int>();
        foreach (var vcpuId in Target.VcpuDescriptors.Keys)
        {
            if (Machines.KernelFiles.ReadNumber($"{directory}/vcpu{vcpuId}/pid") is not { } thread || thread == 0)
                return null;
            threads.Add((int)thread);
        }

        return [.. threads];
    }

    private void Refuse(TargetStatus status)
    {
        var name = $"{Target.VMName} (process {Target.ProcessId})";
        if (status.TracerId != 0 || Threads().Any(thread => thread.Status.TracerId != 0))
            throw AttachErrors.Traced(name, Threads().Select(thread => thread.Status.TracerId).FirstOrDefault(id => id != 0));
        if (status.State is 'T')
            throw AttachErrors.Unsupported($"{name} is stopped by a signal (SIGSTOP).", $"Let it go on first: kill -CONT {Target.ProcessId}.");
        if (SuspendsSeccomp && !AttachErrors.HasCapability(AttachErrors.CapSysAdmin))
            throw AttachErrors.Seccomp(name);
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
