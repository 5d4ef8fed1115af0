namespace KvmTsc.Execution.Attach;

/// <summary>The threads of a process that stand still for a stop: which they are, their stopping, and their going on.</summary>
internal sealed class StoppedThreads : IDisposable
{
    /// <summary>For how long those that did not are waited for when all go on.</summary>
    private static readonly TimeSpan s_patienceAtLast = TimeSpan.FromMilliseconds(200);

    private readonly AttachPreparation _preparation;
    private readonly List<Tracee> _threads = [];
    private readonly List<Tracee> _late = [];
    private DotNetChildren? _children;
    private IReadOnlyList<int>? _lenders;

    public StoppedThreads(AttachPreparation preparation) => _preparation = preparation;

    /// <summary>All of them.</summary>
    public List<Tracee> All => _threads;

    /// <summary>Takes over threads that stand still already.</summary>
    public void TakeOver(IReadOnlyList<Tracee> held) => _threads.AddRange(held);

    /// <summary>Seizes the vCPUs' threads; or all, where they cannot be told from the others.</summary>
    public void Seize()
    {
        SeizeAll(_preparation.VcpuThreads ?? _preparation.ThreadIds());
        _preparation.RequireSameProcess();
        if (_threads.Count == 0)
            _lenders = _preparation.FindLenders();
        if (_threads.Count > Payload.MaximumHolds)
            throw AttachErrors.Failed($"{_preparation.Target.VMName} has {_threads.Count} threads, more than can be held.");
    }

    /// <summary>Stops the threads that were seized, and those that they began meanwhile.</summary>
    /// <param name="arrived">Told of each as soon as it stands still.</param>
    public void Interrupt(Action<Tracee> arrived)
    {
        var interrupted = 0;
        var patience = new Patience(Patience.OfStep);
        do
        {
            for (var i = interrupted; i < _threads.Count; i++)
                _threads[i].Interrupt();
            for (var i = interrupted; i < _threads.Count; i++)
                Await(_threads[i], patience, arrived);
            interrupted = _threads.Count;
        }
        while (SeizeNew());

        foreach (var thread in _threads.FindAll(thread => thread.IsGone))
        {
            thread.Detach();
            _threads.Remove(thread);
        }

        RequireNoGroupStop();
    }

    /// <summary>Stops threads that run no vCPU, one after the other until one can be used; returns whether one can.</summary>
    /// <param name="arrived">Told of each as soon as it stands still.</param>
    /// <param name="canUse">Whether one that stands still can be used.</param>
    public bool TryBorrow(Action<Tracee> arrived, Predicate<Tracee> canUse)
    {
        foreach (var id in _lenders ?? _preparation.FindLenders())
        {
            if (Seize(id) is not { } thread)
                continue;
            _threads.Add(thread);
            thread.Interrupt();
            Await(thread, new Patience(Patience.OfStep), arrived);
            RequireNoGroupStop();
            if (!thread.IsGone && canUse(thread))
                return true;
            _threads.Remove(thread);
            thread.Detach();
        }

        return false;
    }

    /// <summary>Stops vCPUs that run for the first time while we are at work: they keep what the carrier waits for.</summary>
    public void StopStarted()
    {
        foreach (var id in _preparation.FindStarted() ?? [])
        {
            if (Seize(id) is not { } thread)
                continue;
            _late.Add(thread);
            thread.Interrupt();
        }
    }

    /// <summary>Brings every thread but the carrier back to where it was, and lets it go.</summary>
    /// <param name="carrier">The carrier.</param>
    /// <param name="stayHeld">Leaves them in their holds, which the carrier opens when it is done.</param>
    public void ReleaseAllBut(Tracee? carrier, bool stayHeld)
    {
        foreach (var thread in Enumerable.Reverse(_threads).Where(thread => thread != carrier && thread.IsStopped))
            Release(thread, stayHeld);
    }

    /// <summary>
    /// Lets those go that did not stop, which can be only when they do, or when the calling thread ends. The others do not wait for that.
    /// </summary>
    public void ReleaseRest() => LettingGo.All(Enumerable.Reverse(_threads).Concat(_late), s_patienceAtLast);

    /// <summary>.NET waits for its children again.</summary>
    public void Dispose() => _children?.Dispose();

    /// <summary>Seizes the threads that are to stand still, and are not seized yet; returns whether there were any.</summary>
    private bool SeizeNew()
    {
        var before = _threads.Count;
        SeizeAll((_preparation.VcpuThreads is null ? _preparation.ThreadIds() : _preparation.FindStarted()) ?? []);
        return _threads.Count > before;
    }

    private void SeizeAll(IReadOnlyList<int> threadIds)
    {
        foreach (var id in TracingOrder.Of(_preparation.Target.ProcessId, threadIds.Where(id => !IsSeized(id))))
        {
            if (Seize(id) is { } thread)
                _threads.Add(thread);
        }
    }

    private bool IsSeized(int threadId) => _threads.Concat(_late).Any(thread => thread.ThreadId == threadId);

    /// <summary>Seizes a thread; null if it is already, or has ended.</summary>
    private Tracee? Seize(int threadId)
    {
        if (IsSeized(threadId))
            return null;
        if (threadId == _preparation.Target.ProcessId)
            _children ??= DotNetChildren.LeaveAlone(threadId);
        return _preparation.Seize(threadId, options: 0);
    }

    private void RequireNoGroupStop()
    {
        if (_threads.Exists(thread => thread.IsInGroupStop))
            throw AttachErrors.Unsupported($"{_preparation.Target.VMName} is stopped by a signal (SIGSTOP).", $"Let it go on first: kill -CONT {_preparation.Target.ProcessId}.");
    }

    private void Await(Tracee thread, Patience patience, Action<Tracee> arrived)
    {
        if (!thread.TryAwaitStop(patience))
            throw AttachErrors.Stuck(_preparation.Target, thread.ThreadId, _preparation.StatusOf(thread.ThreadId)?.State);
        if (thread.IsGone)
            return;
        thread.ReadRegs();
        thread.RestartInterrupted();
        arrived(thread);
    }

    private static void Release(Tracee thread, bool stayHeld)
    {
        try
        {
            if (thread.IsDiverted && !stayHeld)
                thread.WriteRegs(thread.Regs);
        }
        catch (KvmException)
        {
            // It has ended, or else comes home by the hold, as it would without us: the others have to go on in any case.
        }

        thread.Detach();
    }
}
