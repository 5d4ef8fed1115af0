using System.Diagnostics;
using System.Runtime.InteropServices;
using KvmTsc.Interop;
using KvmTsc.Processes;

namespace KvmTsc.Execution.Attach;

/// <summary>A thread that we trace. All of it has to be used by the OS thread that seized it.</summary>
internal sealed unsafe class Tracee
{
    private const int SigTrap = 5;
    private const int SigStop = 19;
    private const int MaximumXstate = 16384;

    /// <summary>After how long a wait for a stop it is looked at more closely.</summary>
    private static readonly TimeSpan s_unusual = TimeSpan.FromMilliseconds(20);

    [ThreadStatic]
    private static byte[]? t_xstate;

    private int _pendingSignal;
    private bool _isLetGo;

    /// <summary>Why a thread stands still.</summary>
    /// <param name="Signal">The signal, SIGTRAP for what is none.</param>
    /// <param name="Event">The <c>PTRACE_EVENT_*</c>, 0 for a signal or a system call.</param>
    /// <param name="IsSystemCall">Whether it is at the entry or the exit of a system call.</param>
    /// <param name="Sender">The process that sent the signal by tgkill, as the thread's process knows it; 0 for any other origin.</param>
    public readonly record struct Stop(int Signal, int Event, bool IsSystemCall, int Sender);

    private Tracee(int threadId, int innermostId)
    {
        ThreadId = threadId;
        InnermostId = innermostId;
    }

    /// <summary>The thread.</summary>
    public int ThreadId { get; }

    /// <summary>The thread as its process knows it.</summary>
    public int InnermostId { get; }

    /// <summary>Whether it stands still.</summary>
    public bool IsStopped { get; private set; }

    /// <summary>Whether it ended.</summary>
    public bool IsGone { get; private set; }

    /// <summary>Whether a job control stop was in force, which is not ours to end.</summary>
    public bool IsInGroupStop { get; private set; }

    /// <summary>Its registers when it was stopped.</summary>
    public UserRegs Regs;

    /// <summary>Whether its registers are others now.</summary>
    public bool IsDiverted { get; set; }

    /// <summary>
    /// The registers with which the thread can be sent back by a jump: where the kernel would restart its system call, they are such that
    /// it issues it again.
    /// </summary>
    public UserRegs Home
    {
        get
        {
            var home = Regs;
            if (IsRestarted)
                (home.Rax, home.Rip) = (HasRestartBlock ? SysRestart : Regs.OrigRax, Regs.Rip - SyscallLength);
            home.OrigRax = ulong.MaxValue;
            return home;
        }
    }

    /// <summary>
    /// How well it can carry a batch, 0 best; negative if it cannot. The last choice is one whose system call a handler ends: a carrier
    /// issues it again in any case.
    /// </summary>
    public int CarrierRank => HasRestartBlock ? -1
        : IsInSystemCall && (int)Regs.OrigRax == SystemCall.Ioctl && (uint)Regs.Rsi == (uint)KvmRequest.Run ? 0
        : !IsInSystemCall ? 2
        : Result == -Errno.ERESTARTNOHAND ? 3
        : 1;

    private const ulong SyscallLength = 2;
    private const ulong SysRestart = 219;

    private bool IsInSystemCall => (int)Regs.OrigRax >= 0;

    private int Result => (int)Regs.Rax;

    private bool IsRestarted => IsInSystemCall && -Result is Errno.ERESTARTSYS or Errno.ERESTARTNOINTR or Errno.ERESTARTNOHAND or Errno.ERESTART_RESTARTBLOCK;

    private bool HasRestartBlock => IsInSystemCall && -Result == Errno.ERESTART_RESTARTBLOCK;

    /// <summary>
    /// Has the kernel decide whether a system call that our stop ended with EINTR is issued again, when the thread goes on: it is, with its
    /// time limit anew, unless a handler runs first. We could not decide it: whether a signal that waits reaches a handler, or this thread,
    /// shows only then. Not to be used at a system call's exit, after which the kernel may decide nothing.
    /// </summary>
    public void RestartInterrupted()
    {
        if (-Result != Errno.EINTR || !IsInSystemCall || !Interruption.Ends((int)Regs.OrigRax))
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

    /// <summary>Whether it stands in code that the kernel would abort if it came back to it from elsewhere: rseq(2).</summary>
    public bool IsInRestartableSequence(SafeDescriptor memory)
    {
        const int SequenceOffset = 8;
        if (IsInSystemCall)
            return false;
        RseqConfiguration configuration;
        if (LibC.Ptrace(LibC.PTRACE_GET_RSEQ_CONFIGURATION, ThreadId, sizeof(RseqConfiguration), (nint)(&configuration)) < 0 || configuration.Address == 0)
            return false;
        Span<byte> sequence = stackalloc byte[sizeof(ulong)];
        return LibC.Pread(memory, sequence, configuration.Address + SequenceOffset) && sequence.ContainsAnyExcept((byte)0);
    }

    /// <summary>Runs it under trace through the system calls that lead to an address.</summary>
    public void RunTo(ulong address)
    {
        const int MaximumStops = 16;
        for (var i = 0; i < MaximumStops && !IsGone; i++)
        {
            ResumeToSystemCall(0);
            _ = AwaitAny();
            ReadRegs();
            IsStopped = true;
            if (Regs.Rip == address)
                return;
        }
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct RseqConfiguration
    {
        public ulong Address;
        public uint Size, Signature, Flags, Padding;
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
    /// Asks it to stop; a system call that can be restarted will be, by the kernel. If it has ended, that shows when its stop is awaited.
    /// </summary>
    public void Interrupt() => _ = LibC.Ptrace(LibC.PTRACE_INTERRUPT, ThreadId, 0, 0);

    /// <summary>
    /// Waits for the stop that was asked for, or the thread's end. Signals that come first are delivered first.
    /// </summary>
    /// <param name="patience">For how long it may wait uninterruptibly.</param>
    /// <returns>Whether it did not wait uninterruptibly for longer.</returns>
    public bool TryAwaitStop(TimeSpan patience)
    {
        while (AwaitAny(patience) is { } stop)
        {
            if (stop.Event == LibC.PTRACE_EVENT_STOP)
            {
                IsStopped = true;
                IsInGroupStop = stop.Signal != SigTrap;
                return true;
            }

            Resume(stop.Event == 0 && !stop.IsSystemCall ? stop.Signal : 0);
        }

        return IsGone;
    }

    /// <summary>Waits for a stop of any kind, in which it can be let go. A signal that it had is delivered then.</summary>
    public void AwaitAnyStop()
    {
        if (AwaitAny() is not { } stop)
            return;
        IsStopped = true;
        var isSignal = stop.Event == 0 && !stop.IsSystemCall;
        if (isSignal)
            _pendingSignal = stop.Signal;
        if (!isSignal && stop.Event != LibC.PTRACE_EVENT_STOP)
            return;
        ReadRegs();
        RestartInterrupted();
    }

    /// <summary>
    /// Waits until it sends itself a signal. The same signal may come from elsewhere, a child's end for one, since the kernel does not drop
    /// what a traced process ignores; it is dropped here.
    /// </summary>
    /// <param name="expected">The signal.</param>
    /// <param name="processInnermostId">Its process, as that knows itself.</param>
    /// <param name="unusual">Called now and then once it takes unusually long.</param>
    /// <returns>Whether it was that signal, and not another that cannot be blocked.</returns>
    public bool AwaitSignal(int expected, int processInnermostId, Action unusual)
    {
        while (AwaitAny(unusual: unusual) is { } stop)
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

    /// <summary>Whether it is at the entry of a system call, one whose second argument is as given.</summary>
    public bool EntersSystemCall(int number, nuint secondArgument)
    {
        const int NoSystemCallYet = -38; // ENOSYS, until the call has a result
        return Result == NoSystemCallYet && (int)Regs.OrigRax == number && (uint)Regs.Rsi == (uint)secondArgument;
    }

    /// <summary>What came with an event: the new thread's id.</summary>
    public int ReadEventMessage()
    {
        nint message;
        Check(LibC.Ptrace(LibC.PTRACE_GETEVENTMSG, ThreadId, 0, (nint)(&message)));
        return (int)message;
    }

    /// <summary>Lets it go on until its next system call, or another stop.</summary>
    public void ResumeToSystemCall(int signal)
    {
        IsStopped = false;
        Check(LibC.Ptrace(LibC.PTRACE_SYSCALL, ThreadId, 0, signal));
    }

    /// <summary>Lets it go on until the next stop.</summary>
    public void Resume(int signal)
    {
        IsStopped = false;
        Check(LibC.Ptrace(LibC.PTRACE_CONT, ThreadId, 0, signal));
    }

    /// <summary>
    /// Lets it go. One that does not stand still is stopped first: ptrace lets go of no other, and its next signal would stop it for good. One that
    /// has ended is buried.
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
                AwaitAnyStop();
            }
        }
        catch (KvmException) when (IsGone)
        {
            // There is nothing to stop.
        }

        if (IsGone || LibC.Ptrace(LibC.PTRACE_DETACH, ThreadId, 0, _pendingSignal) == -Errno.ESRCH)
            EndedThreads.Bury(ThreadId);
        IsGone = true;
    }

    public void ReadRegs()
    {
        fixed (UserRegs* regs = &Regs)
            Check(LibC.Ptrace(LibC.PTRACE_GETREGS, ThreadId, 0, (nint)regs));
    }

    public void WriteRegs(UserRegs regs) => Check(LibC.Ptrace(LibC.PTRACE_SETREGS, ThreadId, 0, (nint)(&regs)));

    public ulong ReadSignalMask()
    {
        ulong mask;
        Check(LibC.Ptrace(LibC.PTRACE_GETSIGMASK, ThreadId, sizeof(ulong), (nint)(&mask)));
        return mask;
    }

    public void WriteSignalMask(ulong mask) => Check(LibC.Ptrace(LibC.PTRACE_SETSIGMASK, ThreadId, sizeof(ulong), (nint)(&mask)));

    public void SetOptions(int options) => Check(LibC.Ptrace(LibC.PTRACE_SETOPTIONS, ThreadId, 0, options));

    /// <summary>The FPU's state in the form of XSAVE, good until another is read.</summary>
    public ReadOnlySpan<byte> ReadXstate()
    {
        var buffer = t_xstate ??= new byte[MaximumXstate];
        fixed (byte* start = buffer)
        {
            var vector = new IoVector { Base = (nint)start, Length = (nuint)buffer.Length };
            Check(LibC.Ptrace(LibC.PTRACE_GETREGSET, ThreadId, LibC.NT_X86_XSTATE, (nint)(&vector)));
            return buffer.AsSpan(0, (int)vector.Length);
        }
    }

    /// <summary>
    /// Whether it stands still, and why. Asks ptrace and not waitpid: .NET reaps on SIGCHLD, and whatever waits in a process takes the
    /// stops of all that it traces.
    /// </summary>
    public bool TryGetStop(out Stop stop)
    {
        const int SignalCodeIndex = 2;
        const int SenderIndex = 4;
        const int SystemCallCode = 0x85; // SIGTRAP | 0x80
        const int TgkillCode = -6; // SI_TKILL
        var info = stackalloc int[LibC.SignalInfoSize / sizeof(int)];
        if (LibC.Ptrace(LibC.PTRACE_GETSIGINFO, ThreadId, 0, (nint)info) < 0)
        {
            stop = default;
            return false;
        }

        var code = info[SignalCodeIndex];
        stop = new Stop(info[0], code > 0 && info[0] != 0 ? code >> 8 : 0, code == SystemCallCode, code == TgkillCode ? info[SenderIndex] : 0);
        return true;
    }

    /// <summary>Waits until it stands still; null if it ended, or waits uninterruptibly (state D) for longer than it may.</summary>
    private Stop? AwaitAny(TimeSpan? patience = null, Action? unusual = null)
    {
        const int LooksBetweenChecks = 100;
        var began = Stopwatch.GetTimestamp();
        for (var looks = 1; !IsGone; looks++)
        {
            if (TryGetStop(out var stop))
                return stop;
            if (looks % LooksBetweenChecks == 0)
            {
                IsGone = HasEnded();
                var waited = Stopwatch.GetElapsedTime(began);
                if (!IsGone && waited > s_unusual)
                {
                    var status = ProcessStatus.Read($"/proc/{ThreadId}");
                    IsGone = status is null or { IsDead: true };
                    if (waited > patience && status?.State == 'D')
                        return null;
                    unusual?.Invoke();
                }
            }

            Precedence.Pause(looks);
        }

        return null;
    }

    /// <summary>Whether it ended, as far as can be told at once: of a process's first thread not before the others have been buried.</summary>
    public bool HasEnded() => LibC.WaitidEnded(ThreadId, isTaken: false);

    private void Check(int result)
    {
        if (result >= 0)
            return;
        if (-result == Errno.ESRCH)
            IsGone = true;
        throw new KvmException(
            -result == Errno.ESRCH ? KvmErrorId.ProcessGone : KvmErrorId.AttachFailed,
            -result == Errno.ESRCH ? $"Thread {ThreadId} ended while it was worked in." : $"ptrace of thread {ThreadId} failed: {Marshal.GetPInvokeErrorMessage(-result)}.",
            "List the VMs there are with Get-KvmVM.")
        {
            ErrorNumber = -result,
        };
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct IoVector
    {
        public nint Base;
        public nuint Length;
    }
}
