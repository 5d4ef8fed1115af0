using System.Diagnostics;
using KvmTsc.Interop;
using KvmTsc.Processes;

namespace KvmTsc.Execution.Attach;

/// <summary>
/// Waits for a VM to be resumed, and holds each of its vCPUs at its entry into <c>KVM_RUN</c>: after its VMM has restored what it
/// restores, and before the guest executes an instruction. Where all vCPUs have run and debugfs tells by which threads, or the VMM names those that will, only these
/// are watched, as long as they live: they wait for that moment anyway. Else nothing tells which thread will run a vCPU, so that the system calls of every thread
/// are watched, those of new threads too; all but that one go on.
/// </summary>
/// <remarks>
/// A thread is not held at the system call's entry, where it could run nothing else, but is let into it with a stop pending:
/// <c>KVM_RUN</c> then returns EINTR before it enters the guest, as it does for any signal.
/// </remarks>
internal sealed class ResumeWatch : IDisposable
{
    private static readonly TimeSpan s_patienceForOthers = TimeSpan.FromSeconds(1);

    private static readonly TimeSpan s_patienceForEach = TimeSpan.FromMilliseconds(200);

    private static readonly TimeSpan s_longestHold = TimeSpan.FromSeconds(5);

    private static readonly TimeSpan s_betweenChecks = TimeSpan.FromMilliseconds(25);

    private static readonly TimeSpan s_betweenSearches = TimeSpan.FromMilliseconds(200);

    private static readonly TimeSpan s_timeWithoutTurn = TimeSpan.FromMilliseconds(100);

    private readonly AttachPreparation _preparation;
    private readonly Dictionary<int, Tracee> _threads = [];
    private readonly Dictionary<int, int> _entering = []; // a thread, and the vCPU that it is about to run
    private readonly Dictionary<int, Tracee> _held = []; // by vCPU
    private readonly Stopwatch _sinceBegin = new();
    private readonly Stopwatch _sinceFirst = new();
    private readonly Stopwatch _sinceTurn = new();
    private readonly Stopwatch _sinceSearch = new();
    private readonly HashSet<int> _arriving = [];
    private readonly IReadOnlyList<int> _vcpuThreads;
    private bool _watchesAll;
    private bool _isInView;
    private int _heldCount;
    private DotNetChildren? _children;

    public ResumeWatch(AttachPreparation preparation)
    {
        _preparation = preparation;
        _vcpuThreads = preparation.FindVcpuThreads();
        _watchesAll = _vcpuThreads.Count == 0;
    }

    /// <summary>Hands over the threads that are held, each with its registers: letting them go is the caller's from here on.</summary>
    public IReadOnlyList<Tracee> HandOver()
    {
        foreach (var thread in _held.Values)
            _threads.Remove(thread.ThreadId);
        return [.. _held.Values];
    }

    /// <summary>Whether all threads that are to be watched are, but for those that come to no stop; not when they are let go. Any thread may ask.</summary>
    public bool IsInView
    {
        get => Volatile.Read(ref _isInView);
        private set => Volatile.Write(ref _isInView, value);
    }

    /// <summary>For how long it has been waited. Any thread may ask.</summary>
    public TimeSpan Waited => _sinceBegin.Elapsed;

    /// <summary>How many vCPUs are held. Any thread may ask.</summary>
    public int HeldCount => Volatile.Read(ref _heldCount);

    /// <summary>Counts the time since the first vCPU was held.</summary>
    public Stopwatch SinceFirst => _sinceFirst;

    /// <summary>Waits until every vCPU is held, or those that run are and the others do not come.</summary>
    /// <param name="timeout">How long to wait.</param>
    /// <param name="cancellationToken">Ends waiting.</param>
    /// <exception cref="KvmException">The time is over, or the process.</exception>
    public void Await(TimeSpan timeout, CancellationToken cancellationToken)
    {
        WatchAll();
        _sinceBegin.Start();
        _sinceSearch.Start();
        var sinceCheck = Stopwatch.StartNew();
        var sinceFound = Stopwatch.StartNew();
        var idle = 0;
        while (!IsComplete)
        {
            idle++;
            if (Look())
            {
                idle = 0;
                sinceFound.Restart();
            }

            Pause(idle, sinceFound.Elapsed);
            if (sinceCheck.Elapsed < s_betweenChecks)
                continue;
            sinceCheck.Restart();
            cancellationToken.ThrowIfCancellationRequested();
            ForgetEnded();
            if (_sinceSearch.Elapsed > s_betweenSearches)
                RefuseUnseen();
            if (TurnIsDue && _threads.TryGetValue(_preparation.Target.ProcessId, out var first) && !first.IsStopped)
                first.Interrupt();
            if (_arriving.Count == 0 || Waited > s_patienceForOthers)
                IsInView = true;
            if (_held.Count == 0 && Waited > timeout)
                throw TimedOut(timeout);
            if (_held.Count > 0 && !IsComplete && _sinceFirst.Elapsed > s_longestHold)
                throw AttachErrors.Failed($"Not all vCPUs of {_preparation.Target.VMName} could be held; those that were go on.");
        }

        RefuseUnseen();
    }

    /// <summary>Where threads were watched for their names, another one may have run a vCPU: its guest runs with what the VMM gave it.</summary>
    private void RefuseUnseen()
    {
        _sinceSearch.Restart();
        if (_watchesAll || _preparation.KnowsAll || _preparation.FindStarted() is not { } started)
            return;
        foreach (var id in started.Where(id => !_threads.ContainsKey(id)))
            throw AttachErrors.Unseen(_preparation.Target, id);
    }

    /// <summary>Lets every thread go that was not handed over; one that does not come to a stop goes on when the calling thread ends.</summary>
    public void Dispose()
    {
        IsInView = false;
        using var children = _children;
        _children = null;
        var order = TracingOrder.Of(_preparation.Target.ProcessId, _threads.Keys);
        LettingGo.All(order.Reverse().Select(id => _threads[id]), s_patienceForOthers, s_patienceForEach);
        _threads.Clear();
    }

    /// <summary>How often a new thread's first stop is looked for at once: the sooner its system call is restarted, the less a death of ours can do.</summary>
    private const int LooksAtNew = 100;

    private bool TurnIsDue => _children is not null && _sinceTurn.Elapsed > s_timeWithoutTurn;

    private bool IsComplete =>
        _held.Count == _preparation.Target.VcpuDescriptors.Count || (_held.Count > 0 && _entering.Count == 0 && _sinceFirst.Elapsed > s_patienceForOthers);

    /// <summary>
    /// The longer nothing has happened, the less often it is looked: that a thousandth of that time is added to a pause is not noticed, what looking costs is.
    /// </summary>
    private static void Pause(int idle, TimeSpan sinceFound)
    {
        const int IdleBeforeSleep = 1000;
        const int LeastMicroseconds = 100;
        const int MostMicroseconds = 10_000;
        const int Thousand = 1000;
        if (idle > IdleBeforeSleep)
            _ = LibC.Usleep((uint)Math.Clamp(sinceFound.TotalMicroseconds / Thousand, LeastMicroseconds, MostMicroseconds));
        else if (idle > 0)
            _ = LibC.SchedYield();
    }

    private void WatchAll()
    {
        LibC.IgnoreChildStops();
        _sinceTurn.Start();
        bool foundNew;
        do
        {
            if (Watched().Contains(_preparation.Target.ProcessId))
                _children ??= DotNetChildren.LeaveAlone(_preparation.Target.ProcessId);
            foundNew = WatchNew();
            foundNew |= WatchesFurther();
        }
        while (foundNew);
        _preparation.RequireSameProcess();
    }

    /// <summary>Where a thread that ran a vCPU is there no more, another one may run it from now on.</summary>
    private bool WatchesFurther()
    {
        if (_watchesAll || Watched().All(_threads.ContainsKey))
            return false;
        return _watchesAll = true;
    }

    private IReadOnlyList<int> Watched() => _watchesAll ? _preparation.ThreadIds() : _vcpuThreads;

    /// <summary>
    /// Watches the threads that are to be, and are not yet: all are asked to stop before the first is dealt with, so that what ends a wait of one finds it
    /// traced. Returns whether there were any.
    /// </summary>
    private bool WatchNew()
    {
        const int Options = LibC.PTRACE_O_TRACESYSGOOD | LibC.PTRACE_O_TRACECLONE;
        List<Tracee> seized = [];
        foreach (var id in TracingOrder.Of(_preparation.Target.ProcessId, Watched().Where(id => !_threads.ContainsKey(id))))
        {
            if (_preparation.Seize(id, Options) is not { } thread) // one that a watched one has just created is ours from birth
                continue;
            thread.Interrupt();
            seized.Add(thread);
            _threads.Add(id, thread);
            _arriving.Add(id);
        }

        var isNew = seized.Count > 0;
        for (var looks = 0; looks < LooksAtNew && seized.Count > 0; looks++)
        {
            seized.RemoveAll(DealWith);
            _ = LibC.SchedYield();
        }

        return isNew;
    }

    /// <summary>Deals with every thread that stands still; returns whether any did.</summary>
    private bool Look()
    {
        var found = false;
        foreach (var thread in _threads.Values.Where(thread => !thread.IsGone && !thread.IsStopped).ToArray())
            found |= DealWith(thread);

        return found;
    }

    /// <summary>Deals with a thread if it stands still; returns whether it did.</summary>
    private bool DealWith(Tracee thread)
    {
        if (!thread.TryGetStop(out var stop))
            return false;
        if (TurnIsDue && thread.ThreadId == _preparation.Target.ProcessId)
            GiveTurn();
        try
        {
            Handle(thread, stop);
        }
        catch (KvmException) when (thread.IsGone)
        {
            Forget(thread);
        }

        return true;
    }

    /// <summary>While the first thread stands still for us, and .NET cannot see that.</summary>
    private void GiveTurn()
    {
        LibC.WaitidTakeStop(_preparation.Target.ProcessId);
        _children!.GiveTurn();
        _sinceTurn.Restart();
    }

    private void Handle(Tracee thread, Tracee.Stop stop)
    {
        switch (stop)
        {
            case { Event: LibC.PTRACE_EVENT_STOP, IsGroupStop: true }:
                _arriving.Remove(thread.ThreadId);
                thread.ReadRegs();
                thread.RestartInterrupted();
                thread.Listen();
                break;
            case { Event: LibC.PTRACE_EVENT_STOP } when _entering.Remove(thread.ThreadId, out var vcpuId):
                Hold(thread, vcpuId);
                break;
            case { Event: LibC.PTRACE_EVENT_STOP }:
                _arriving.Remove(thread.ThreadId);
                thread.ReadRegs();
                thread.RestartInterrupted();
                thread.ResumeToSystemCall(0);
                break;
            case { Event: LibC.PTRACE_EVENT_CLONE }:
                if (thread.ReadEventMessage() is var created && !_threads.ContainsKey(created))
                    _threads.Add(created, Tracee.Created(created, _preparation.InnermostIdOf(created)));
                thread.ResumeToSystemCall(0);
                break;
            case { IsSystemCall: true }:
                thread.ReadRegs();
                if (RegistersAtStop.EntersSystemCall(thread.Regs, SystemCall.Ioctl, KvmRequest.Run)
                    && _preparation.VcpuIds.TryGetValue((int)(uint)thread.Regs.Rdi, out var entered)) // 32 bits, as the kernel takes it
                    Enter(thread, entered);
                else
                    GoOn(thread);
                break;
            case { Event: 0 }:
                thread.ReadRegs();
                thread.RestartInterrupted();
                thread.ResumeToSystemCall(stop.Signal);
                break;
            default:
                thread.ResumeToSystemCall(0);
                break;
        }
    }

    /// <summary>At the exit of a system call that one of our stops ended, that stop follows, after which it is issued again.</summary>
    private static void GoOn(Tracee thread)
    {
        if (RegistersAtStop.IsInterrupted(thread.Regs))
            thread.PostponeStop();
        thread.ResumeToSystemCall(0);
    }

    private void Enter(Tracee thread, int vcpuId)
    {
        _entering[thread.ThreadId] = vcpuId;
        thread.Interrupt();
        thread.Resume(0);
    }

    private void Hold(Tracee thread, int vcpuId)
    {
        _sinceFirst.Start();
        thread.MarkStopped();
        thread.ReadRegs();
        _held[vcpuId] = thread;
        Volatile.Write(ref _heldCount, _held.Count);
    }

    private void ForgetEnded()
    {
        foreach (var thread in _threads.Values.Where(thread => !thread.IsStopped && thread.HasEnded()).ToArray())
            Forget(thread);
        if (WatchesFurther())
            WatchAll();
        if (_threads.Count == 0)
        {
            throw new KvmException(
                KvmErrorId.ProcessGone, $"{_preparation.Target.VMName} ended before it was resumed; nothing was restored.", "List the VMs there are with Get-KvmVM.");
        }
    }

    private void Forget(Tracee ended)
    {
        _threads.Remove(ended.ThreadId);
        _arriving.Remove(ended.ThreadId);
        ended.Detach();
    }

    private KvmException TimedOut(TimeSpan timeout) => new(
        KvmErrorId.ResumeTimeout,
        $"{_preparation.Target.VMName} was not resumed within {timeout.TotalSeconds:0} s.",
        "Nothing was changed. Start it again with a longer -TimeoutSeconds, before the VM is resumed.");
}
