using System.Diagnostics;
using KvmTsc.Arithmetic;
using KvmTsc.Execution;
using KvmTsc.Execution.Attach;
using KvmTsc.Hosts;
using KvmTsc.Machines;
using KvmTsc.Processes;

namespace KvmTsc.Discovery;

/// <summary>A VM that another process of this host runs, as it was when it was looked at.</summary>
public sealed class ProcessMachine : HostMachine
{
    private static readonly Lazy<HostTscTraits> s_hostTsc = new(() => LocalHost.Tsc);
    private readonly bool _isOnlyVM;

    internal ProcessMachine(VMIdentity identity, string vmm, ulong startTime, FoundVM vm, bool isOnlyVM)
    {
        Identity = identity;
        Vmm = vmm;
        StartTime = startTime;
        Found = vm;
        _isOnlyVM = isOnlyVM;
        Executor = Found.IsDoubtful ? new RefusingExecutor(Doubt()) : new AttachedExecutor(Target);
    }

    /// <summary>The same VM, by another name.</summary>
    public ProcessMachine Named(string name) => name == Identity.Name ? this : new(Identity with { Name = name }, Vmm, StartTime, Found, _isOnlyVM);

    /// <inheritdoc/>
    public override VMIdentity Identity { get; }

    /// <inheritdoc/>
    public override string Vmm { get; }

    /// <summary>When its process started, in ticks since boot: a process id that was reused has another.</summary>
    public ulong StartTime { get; }

    /// <inheritdoc/>
    public override IReadOnlyList<int> VcpuIds => Found.VcpuIds;

    /// <inheritdoc/>
    public override IVMExecutor Executor { get; }

    /// <inheritdoc/>
    public override HostTscTraits HostTsc => s_hostTsc.Value;

    /// <summary>
    /// Whether its guest ever ran, by debugfs; taken for granted where that cannot be read. A VMM may have entered KVM for its vCPUs and come back from there without having
    /// entered the guest, as cloud-hypervisor does with one that it has restored (immediate_exit).
    /// </summary>
    public override bool GuestHasRun => Debugfs?.ReadExits() != 0 && VcpuIds.Any(id => Debugfs?.ReadThread(id) != 0);

    /// <summary>Whether only the order of the process's descriptors tells its vCPUs from those of the process's other VMs.</summary>
    public bool IsAssignedByOrder => Found.IsByOrder;

    /// <summary>Whether its vCPUs still are all those that it was found with, and its descriptors were told for certain.</summary>
    internal bool IsAsFound => !Found.IsDoubtful && (Debugfs?.ReadVcpuIds() is not { } ids || ids.SequenceEqual(VcpuIds));

    /// <summary>The same VM, with the vCPUs that it has now; null if it is gone, or may not be looked at.</summary>
    internal ProcessMachine? Again() =>
        VMDiscovery.Seen(Identity.ProcessId).FirstOrDefault(machine => machine.StartTime == StartTime && machine.Identity.Id == Identity.Id)?.Named(Identity.Name);

    /// <summary>Whether its VMM may be creating it still: it has fewer vCPUs than it is to have, and its guest never ran.</summary>
    public bool IsIncomplete(int vcpuCount) => VcpuIds.Count < vcpuCount && !GuestHasRun;

    /// <summary>The same VM, once it has so many vCPUs: its VMM may have much memory to fill before it creates them.</summary>
    /// <param name="count">How many.</param>
    /// <param name="timeout">How long that is waited for; after that, or where its guest runs sooner, it is the VM as it is.</param>
    /// <param name="waiting">Told how long it has taken, and how many there are.</param>
    /// <param name="cancellationToken">Ends waiting.</param>
    public ProcessMachine AwaitVcpus(int count, TimeSpan timeout, Action<TimeSpan, int> waiting, CancellationToken cancellationToken)
    {
        const int PollMilliseconds = 200;
        var start = Stopwatch.GetTimestamp();
        var machine = this;
        while (machine.IsIncomplete(count) && Stopwatch.GetElapsedTime(start) is var waited && waited < timeout)
        {
            waiting(waited, machine.VcpuIds.Count);
            cancellationToken.WaitHandle.WaitOne(PollMilliseconds);
            cancellationToken.ThrowIfCancellationRequested();
            if (machine.Again() is not { } again)
                return machine; // whoever works in it will say that it is gone
            machine = again;
        }

        return machine;
    }

    /// <summary>What an executor has to know of it.</summary>
    public AttachTarget Target => new(
        Identity.ProcessId, StartTime, Identity.Name, Found.Descriptor, Found.VcpuDescriptors, Debugfs?.Directory);

    /// <inheritdoc/>
    internal override VMDebugfs? Debugfs => Found.Debugfs;

    /// <summary>Its descriptors.</summary>
    internal FoundVM Found { get; }

    /// <inheritdoc/>
    public override AttachObstacle? FindAttachObstacle(OwnRights? rights = null)
    {
        var circumstances = ProcessStat.Read($"/proc/{Identity.ProcessId}")?.StartTime == StartTime ? AttachCircumstances.Read(Identity.ProcessId, rights) : null;
        return circumstances is null
            ? new AttachObstacle(KvmErrorId.ProcessGone, $"Process {Identity.ProcessId} has ended.", "List the VMs there are with Get-KvmVM.")
            : circumstances.FindObstacle() ?? (Found.IsDoubtful ? Doubt() : null);
    }

    /// <inheritdoc/>
    public override IReadOnlyList<KvmVcpu> DescribeVcpus()
    {
        var threads = Threads;
        return [.. VcpuIds.Select(Describe)];

        KvmVcpu Describe(int id)
        {
            var (threadId, state) = threads.Look(id);
            return new KvmVcpu(Identity.Name, Identity.ProcessId, Identity.Id, id, threadId, state);
        }
    }

    /// <summary>Whether all its vCPUs stand still. It is looked no further than the first that does not.</summary>
    internal bool IsStopped() => VcpuIds.Count > 0 && LookAtStates().All(state => state == KvmVcpuState.Stopped);

    /// <summary>Whether the guest of one of its vCPUs waits: its thread is in KVM then, and not only on its way out of the guest.</summary>
    internal bool HasHalted() => LookAtStates().Contains(KvmVcpuState.Halted);

    /// <summary>What its vCPUs do, one after the other: it is looked at no more of them than are asked for.</summary>
    private IEnumerable<KvmVcpuState> LookAtStates()
    {
        var threads = Threads;
        return VcpuIds.Select(id => threads.Look(id).State);
    }

    private VcpuThreads Threads => new(Identity.ProcessId, Found, _isOnlyVM);

    private AttachObstacle Doubt() => new(
        KvmErrorId.AttachUnsupported,
        $"Which of the vCPU descriptors of process {Identity.ProcessId} belong to {Identity.Name} cannot be told for certain.",
        Debugfs is null
            ? "Run as root, with debugfs mounted (mount -t debugfs none /sys/kernel/debug)."
            : "Try again while its guest runs and is idle: a waiting vCPU thread tells which descriptor is its own.");

    private sealed class RefusingExecutor(AttachObstacle obstacle) : IVMExecutor
    {
        public Stopped<T> WhileStopped<T>(Func<IVMStop, T> work, CancellationToken cancellationToken, IoctlBatch? first = null) =>
            throw obstacle.ToException();
    }
}
