using System.Globalization;
using System.Text.RegularExpressions;
using KvmTsc.Machines;
using KvmTsc.Processes;

namespace KvmTsc.Discovery;

/// <summary>The thread of each vCPU of a VM of another process, and what it is doing.</summary>
internal sealed partial class VcpuThreads
{
    private readonly int _processId;
    private readonly FoundVM _vm;
    private readonly ProcessThreads _threads;
    private readonly Lazy<Dictionary<int, int>> _waiting;
    private readonly Lazy<Dictionary<int, int>> _named;

    /// <summary>Prepares to look.</summary>
    /// <param name="processId">The process.</param>
    /// <param name="vm">The VM.</param>
    /// <param name="isOnlyVM">Whether the process has no other, so that the names of its threads are about this one.</param>
    public VcpuThreads(int processId, FoundVM vm, bool isOnlyVM)
    {
        _processId = processId;
        _vm = vm;
        _threads = new ProcessThreads(processId);
        _waiting = new Lazy<Dictionary<int, int>>(FindWaiting);
        _named = new Lazy<Dictionary<int, int>>(() => isOnlyVM ? FindNamed() : []);
    }

    /// <summary>A vCPU's thread, null if it has none or none can be told, and state.</summary>
    public (int? ThreadId, KvmVcpuState State) Look(int vcpuId)
    {
        var entered = _vm.Debugfs?.ReadThread(vcpuId);
        if (entered == 0)
            return (NamedThread(vcpuId), KvmVcpuState.Stopped);
        if (entered is { } thread)
            return ProcessStat.Read(TaskDirectory(thread)) is { IsDead: false } stat ? (thread, StateOf(thread, stat)) : (null, KvmVcpuState.Stopped);
        return WaitingThread(vcpuId) is { } waiting ? (waiting, StateOf(waiting))
            : NamedThread(vcpuId) is { } named ? (named, StateOf(named))
            : (null, KvmVcpuState.Unknown);
    }

    // QEMU, Firecracker, cloud-hypervisor, crosvm, kvmtool
    [GeneratedRegex(@"^(?:CPU (?<number>\d+)/KVM|(?:fc_vcpu |vcpu|crosvm_vcpu|kvm-vcpu-)(?<number>\d+))$", RegexOptions.CultureInvariant)]
    private static partial Regex ThreadName();

    private int? WaitingThread(int vcpuId) => _waiting.Value.TryGetValue(vcpuId, out var thread) ? thread : null;

    private int? NamedThread(int vcpuId) => _named.Value.TryGetValue(vcpuId, out var thread) ? thread : null;

    private KvmVcpuState StateOf(int threadId) =>
        ProcessStat.Read(TaskDirectory(threadId)) is { IsDead: false } stat ? StateOf(threadId, stat) : KvmVcpuState.Stopped;

    private KvmVcpuState StateOf(int threadId, ProcessStat stat)
    {
        // A thread that a tracer or a signal took out of KVM_RUN still shows that system call.
        if (stat.State is 'T' or 't')
            return KvmVcpuState.Stopped;
        if (SystemCall.Read(_processId, threadId) is { } call)
            return call.IsRunning ? KvmVcpuState.Running : call.RunDescriptor is null ? KvmVcpuState.Stopped : KvmVcpuState.Halted;
        return stat.State == 'R' ? KvmVcpuState.Running : KvmVcpuState.Unknown;
    }

    private Dictionary<int, int> FindWaiting()
    {
        var vcpuIds = _vm.VcpuDescriptors.SelectMany(vcpu => vcpu.Value.Select(number => (number, vcpu.Key))).ToDictionary();
        var found = new Dictionary<int, int>();
        foreach (var thread in _threads.Read())
        {
            if (SystemCall.Read(_processId, thread)?.RunDescriptor is { } number && vcpuIds.TryGetValue(number, out var id))
                found.TryAdd(id, thread);
        }

        return found;
    }

    /// <summary>VMMs count their vCPUs, KVM's ids may have gaps: the names tell the ids only where both are the same numbers.</summary>
    private Dictionary<int, int> FindNamed()
    {
        var found = new Dictionary<int, int>();
        foreach (var thread in _threads.Read())
        {
            var name = ThreadName().Match(KernelFiles.ReadLine($"{TaskDirectory(thread)}/comm") ?? "");
            if (name.Success && int.TryParse(name.Groups["number"].ValueSpan, NumberStyles.None, CultureInfo.InvariantCulture, out var number))
                found.TryAdd(number, thread);
        }

        return found.Keys.Order().SequenceEqual(_vm.VcpuIds) ? found : [];
    }

    private string TaskDirectory(int threadId) => $"/proc/{_processId}/task/{threadId}";
}
