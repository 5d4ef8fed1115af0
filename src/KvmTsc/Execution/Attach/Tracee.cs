using KvmTsc.Interop;
using KvmTsc.Processes;

namespace KvmTsc.Execution.Attach;

/// <summary>A thread that we trace: stopped, waited for, sent elsewhere, and let go.</summary>
internal sealed class Tracee : TracedThread
{
    private const int SigStop = 19;

    /// <summary>For how long one that does not stand still is asked to, when it is let go.</summary>
    private static readonly TimeSpan s_patienceAtLast = TimeSpan.FromSeconds(1);

    private int _pendingSignal;
    private bool _isLetGo;

    private Tracee(int threadId, int innermostId)
        : base(threadId, innermostId)
    {
    }

    /// <summary>Whether it stands still.</summary>
    public bool IsStopped { get; private set; }

    /// <summary>Whether a job control stop was in force, which is not ours to end.</summary>
    public bool IsInGroupStop { get; private set; }

    /// <summary>Whether its registers are others now.</summary>
    public bool IsDiverted { get; set; }

    /// <summary>The registers with which it can be sent back by a jump.</summary>
    public UserRegs Home => RegistersAtStop.HomeOf(Regs);

    /// <summary>How well it can carry a batch, 0 best; negative if it cannot.</summary>
    public int CarrierRank => RegistersAtStop.CarrierRankOf(Regs);

    /// <summary>
    /// Has the kernel decide whether a system call that our stop ended with EINTR is issued again, when the thread goes on: it is, with its
    /// time limit anew, unless a handler runs first. We could not decide it: whether a signal that waits reaches a handler, or this thread,
    /// shows only then. At a system call's exit, after which the kernel may decide nothing, it takes <see cref="PostponeStop"/>.
    /// </summary>
    public void RestartInterrupted()
    {
        if (!RegistersAtStop.IsInterrupted(Regs))
            return;
        Regs.Rax = unchecked((ulong)-Errno.ERESTARTNOHAND);
        WriteRegs(Regs);
    }

    /// <summary>Sends it elsewhere when it goes on.</summary>
    public void Divert(ulong address)
    {
        var regs = Home;
        regs.Rip = address;
        IsDiverted = true;
        WriteRegs(regs);
    }

    /// <summary>Runs it under trace through the system calls that lead to an address.</summary>
    public void RunTo(ulong address, Patience patience)
    {
        const int MaximumStops = 16;
        for (var i = 0; i < MaximumStops && !IsGone; i++)
        {
            if (!RunToSystemCall(patience) || Regs.Rip == address)
                return;
        }
    }

    /// <summary>Lets it issue the system call that its registers say, and stops it at that call's end.</summary>
    /// <returns>The call's result; null where it did not come to that.</returns>
    public int? RunSystemCall(int number, Patience patience) =>
        RunToSystemCall(patience) && RegistersAtStop.Enters(Regs, number) && RunToSystemCall(patience) ? (int)Regs.Rax : null;

    /// <summary>Lets it go on to its next system call, or to that call's end; returns whether it stands still, with its registers read.</summary>
    private bool RunToSystemCall(Patience patience)
    {
        ResumeToSystemCall(0);
        if (AwaitAny(patience) is null)
            return false;
        IsStopped = true;
        ReadRegs();
        return true;
    }

    /// <summary>Traces a thread, without stopping it.</summary>
    /// <returns>The thread, or null with the errno.</returns>
    public static Tracee? Seize(int threadId, int innermostId, int options, out int errno)
    {
        errno = -LibC.Ptrace(LibC.PTRACE_SEIZE, threadId, 0, options);
        return errno == 0 ? new Tracee(threadId, innermostId) : null;
    }

    /// <summary>A thread that is traced from birth, because its creator is.</summary>
    public static Tracee Created(int threadId, int innermostId) => new(threadId, innermostId);

    /// <summary>
    /// Waits for the stop that was asked for, or the thread's end. Signals that come first are delivered first.
    /// </summary>
    /// <param name="patience">For how long it is waited for.</param>
    /// <returns>Whether it took no longer.</returns>
    public bool TryAwaitStop(Patience patience)
    {
        while (AwaitAny(patience) is { } stop)
        {
            if (stop.Event == LibC.PTRACE_EVENT_STOP)
            {
                IsStopped = true;
                IsInGroupStop = stop.IsGroupStop;
                return true;
            }

            Resume(stop.Event == 0 && !stop.IsSystemCall ? stop.Signal : 0);
        }

        return IsGone;
    }

    /// <summary>
    /// At the entry or the exit of a system call, or at another event: a stop that was asked for has been taken by this one, and a wait ends with EINTR all
    /// the same. Another stop is asked for, on the way to which the kernel decides whether the call is issued again, as it does after a signal.
    /// </summary>
    public void PostponeStop()
    {
        ReadRegs();
        RestartInterrupted();
        Interrupt();
    }

    /// <summary>Waits for a stop in which it can be let go. A signal that it had is delivered then.</summary>
    private void AwaitLastStop()
    {
        var patience = new Patience(s_patienceAtLast);
        while (AwaitAny(patience) is { } stop)
        {
            if (!CanBeLetGoAt(stop))
                continue;
            IsStopped = true;
            if (stop.Event == 0)
                _pendingSignal = stop.Signal;
            ReadRegs();
            RestartInterrupted();
            return;
        }
    }

    /// <summary>Whether it can; else it goes on to a stop where it can.</summary>
    private bool CanBeLetGoAt(Stop stop)
    {
        if (stop is { Event: LibC.PTRACE_EVENT_STOP } or { Event: 0, IsSystemCall: false })
            return true;
        PostponeStop();
        Resume(0);
        return false;
    }

    /// <summary>
    /// Waits until it sends itself a signal. The same signal may come from elsewhere, a child's end for one, since the kernel does not drop
    /// what a traced process ignores; it is dropped here.
    /// </summary>
    /// <param name="expected">The signal.</param>
    /// <param name="processInnermostId">Its process, as that knows itself.</param>
    /// <param name="patience">For how long it is waited for.</param>
    /// <param name="unusual">Called now and then once it takes unusually long.</param>
    /// <returns>Whether it was that signal; else it ended, stands still for another that cannot be blocked, or did not come to a stop.</returns>
    public bool AwaitSignal(int expected, int processInnermostId, Patience patience, Action unusual)
    {
        while (AwaitAny(patience, unusual) is { } stop)
        {
            IsStopped = true;
            var isExpected = stop.Event == 0 && stop.Signal == expected;
            if (isExpected && stop.Sender == processInnermostId)
                return true;
            if (!isExpected && stop.Signal != SigStop && stop.Event != LibC.PTRACE_EVENT_STOP)
                return false;

            // A SIGSTOP cannot be blocked; it is delivered when the thread is let go.
            if (stop.Event == 0 && stop.Signal == SigStop)
                _pendingSignal = SigStop;
            Resume(0);
        }

        return false;
    }

    /// <summary>Notes that it stays where it is.</summary>
    public void MarkStopped() => IsStopped = true;

    /// <summary>Lets it go on until its next system call, or another stop.</summary>
    public void ResumeToSystemCall(int signal)
    {
        IsStopped = false;
        Continue(LibC.PTRACE_SYSCALL, signal);
    }

    /// <summary>Leaves it where job control has stopped it, until that lets it go on, which is another stop.</summary>
    public void Listen()
    {
        IsStopped = false;
        Continue(LibC.PTRACE_LISTEN, 0);
    }

    /// <summary>Lets it go on until the next stop.</summary>
    public void Resume(int signal)
    {
        IsStopped = false;
        Continue(LibC.PTRACE_CONT, signal);
    }

    /// <summary>Leaves it to the kernel, which lets it go when the thread that traces it ends, wherever it is by then.</summary>
    public void Leave() => _isLetGo = true;

    /// <summary>
    /// Lets it go. One that does not stand still is stopped first: ptrace lets go of no other, and its next signal would stop it for good. One that
    /// has ended is buried, and one that comes to no stop left to the kernel.
    /// </summary>
    public void Detach()
    {
        if (_isLetGo)
            return;
        _isLetGo = true;
        try
        {
            if (!IsStopped && !IsGone)
            {
                Interrupt();
                AwaitLastStop();
            }
        }
        catch (KvmException) when (IsGone)
        {
            // There is nothing to stop.
        }

        if (!IsStopped && !IsGone)
            return;
        if (IsGone || LibC.Ptrace(LibC.PTRACE_DETACH, ThreadId, 0, _pendingSignal) == -Errno.ESRCH)
            EndedThreads.Bury(ThreadId);
        IsGone = true;
    }

    /// <summary>Asks it to stand still, unless it does.</summary>
    public void RequestStop()
    {
        if (!_isLetGo && !IsStopped && !IsGone)
            Interrupt();
    }

    /// <summary>Lets it go if it stands still, or has ended; returns whether that is done.</summary>
    /// <param name="looksCloser">Whether to look for its end, too.</param>
    public bool TryDetach(bool looksCloser)
    {
        if (StandsForLast() || (looksCloser && LooksEnded()))
            Detach();
        return _isLetGo;
    }

    /// <summary>Whether it can be let go, or will not be able to soon.</summary>
    /// <param name="looksCloser">Whether to look for the latter, too.</param>
    public bool HoldsNobodyUp(bool looksCloser) => StandsForLast() || (looksCloser && (LooksEnded() || ReadStatus() is { State: 'D' }));

    private bool StandsForLast()
    {
        try
        {
            return _isLetGo || IsStopped || IsGone || (TryGetStop(out var stop) && CanBeLetGoAt(stop));
        }
        catch (KvmException) when (IsGone)
        {
            return true;
        }
    }

    private bool LooksEnded() => IsGone = HasEnded() || ReadStatus() is null or { IsDead: true };

    private ProcessStatus? ReadStatus() => ProcessStatus.Read($"/proc/{ThreadId}");

    /// <summary>Waits until it stands still; null if it ended, or it took too long.</summary>
    private Stop? AwaitAny(Patience patience, Action? unusual = null)
    {
        const int LooksBetweenChecks = 100;
        for (var looks = 1; !IsGone; looks++)
        {
            if (TryGetStop(out var stop))
                return stop;
            if (looks % LooksBetweenChecks == 0)
            {
                if (patience.IsOver())
                    return null;
                IsGone = HasEnded();
                if (!IsGone && patience.IsUnusual && !LooksEnded())
                    unusual?.Invoke();
            }

            Precedence.Pause(looks);
        }

        return null;
    }
}
