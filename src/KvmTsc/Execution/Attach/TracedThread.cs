using System.Runtime.InteropServices;
using KvmTsc.Interop;

namespace KvmTsc.Execution.Attach;

/// <summary>
/// What ptrace(2) does with a thread, a request each. All of it has to be used by the OS thread that seized it. Most requests want it to stand still.
/// </summary>
internal abstract unsafe class TracedThread
{
    private const int MaximumXstate = 16384;
    private const int MaximumFilter = 4096; // BPF_MAXINSNS

    [ThreadStatic]
    private static byte[]? t_xstate;

    [ThreadStatic]
    private static ClassicBpf.Instruction[]? t_filter;

    /// <summary>Why a thread stands still.</summary>
    /// <param name="Signal">The signal, SIGTRAP for what is none.</param>
    /// <param name="Event">The <c>PTRACE_EVENT_*</c>, 0 for a signal or a system call.</param>
    /// <param name="IsSystemCall">Whether it is at the entry or the exit of a system call.</param>
    /// <param name="Sender">The process that sent the signal by tgkill, as the thread's process knows it; 0 for any other origin.</param>
    public readonly record struct Stop(int Signal, int Event, bool IsSystemCall, int Sender)
    {
        private const int SigTrap = 5;

        /// <summary>Whether job control has stopped its process, which is not ours to end.</summary>
        public bool IsGroupStop => Event == LibC.PTRACE_EVENT_STOP && Signal != SigTrap;
    }

    private protected TracedThread(int threadId, int innermostId)
    {
        ThreadId = threadId;
        InnermostId = innermostId;
    }

    /// <summary>The thread.</summary>
    public int ThreadId { get; }

    /// <summary>The thread as its process knows it.</summary>
    public int InnermostId { get; }

    /// <summary>Whether it ended.</summary>
    public bool IsGone { get; private protected set; }

    /// <summary>Its registers when it was stopped.</summary>
    public UserRegs Regs;

    /// <summary>
    /// Asks it to stop; a system call that can be restarted will be, by the kernel. If it has ended, that shows when its stop is awaited.
    /// </summary>
    public void Interrupt() => _ = LibC.Ptrace(LibC.PTRACE_INTERRUPT, ThreadId, 0, 0);

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

    /// <summary>
    /// Puts code where the process itself may not write. Through /proc/PID/mem, at once, the kernel may allow it for the memory of a thread that we
    /// trace only (proc_mem.force_override=ptrace, what Linux takes from 7.1 on), or not at all (never): by ptrace, word by word, always.
    /// </summary>
    public void WriteCode(ReadOnlySpan<byte> code, ulong address)
    {
        var descriptor = LibC.Open($"/proc/{ThreadId}/mem", LibC.O_RDWR | LibC.O_CLOEXEC);
        if (descriptor >= 0)
        {
            using var memory = new SafeDescriptor(descriptor);
            if (LibC.Pwrite(memory, code, address) == 0)
                return;
        }

        foreach (var word in MemoryMarshal.Cast<byte, nint>(code))
        {
            Check(LibC.Ptrace(LibC.PTRACE_POKEDATA, ThreadId, (nint)address, word));
            address += (ulong)sizeof(nint);
        }
    }

    /// <summary>The FPU's state in the form of XSAVE, good until another is read.</summary>
    public ReadOnlySpan<byte> ReadXstate()
    {
        var buffer = t_xstate ??= new byte[MaximumXstate];
        fixed (byte* start = buffer)
        {
            var vector = new LibC.IoVector { Base = (nint)start, Length = (nuint)buffer.Length };
            Check(LibC.Ptrace(LibC.PTRACE_GETREGSET, ThreadId, LibC.NT_X86_XSTATE, (nint)(&vector)));
            return buffer.AsSpan(0, (int)vector.Length);
        }
    }

    /// <summary>Reads one of its seccomp filters, 0 that which was added last.</summary>
    /// <param name="index">Which.</param>
    /// <param name="program">The filter.</param>
    /// <returns>0, else the errno: ENOENT after the first one, EINVAL where it has none.</returns>
    public int ReadSeccompFilter(int index, out ClassicBpf.Instruction[] program)
    {
        var buffer = t_filter ??= new ClassicBpf.Instruction[MaximumFilter];
        fixed (ClassicBpf.Instruction* start = buffer)
        {
            var result = LibC.Ptrace(LibC.PTRACE_SECCOMP_GET_FILTER, ThreadId, index, (nint)start);
            program = result < 0 ? [] : buffer[..result];
            return Math.Max(0, -result);
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

    /// <summary>What came with an event: the new thread's id.</summary>
    public int ReadEventMessage()
    {
        nint message;
        Check(LibC.Ptrace(LibC.PTRACE_GETEVENTMSG, ThreadId, 0, (nint)(&message)));
        return (int)message;
    }

    /// <summary>Whether it stands in code that the kernel would abort if it came back to it from elsewhere: rseq(2).</summary>
    public bool IsInRestartableSequence(SafeDescriptor memory)
    {
        const int SequenceOffset = 8;
        if (RegistersAtStop.IsInSystemCall(Regs))
            return false;
        RseqConfiguration configuration;
        if (LibC.Ptrace(LibC.PTRACE_GET_RSEQ_CONFIGURATION, ThreadId, sizeof(RseqConfiguration), (nint)(&configuration)) < 0 || configuration.Address == 0)
            return false;
        Span<byte> sequence = stackalloc byte[sizeof(ulong)];
        return LibC.Pread(memory, sequence, configuration.Address + SequenceOffset) && sequence.ContainsAnyExcept((byte)0);
    }

    /// <summary>Whether it ended, as far as can be told at once: of a process's first thread not before the others have been buried.</summary>
    public bool HasEnded() => LibC.WaitidEnded(ThreadId, isTaken: false);

    /// <summary>Has it go on, with a signal or without.</summary>
    private protected void Continue(int request, int signal) => Check(LibC.Ptrace(request, ThreadId, 0, signal));

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
    private struct RseqConfiguration
    {
        public ulong Address;
        public uint Size, Signature, Flags, Padding;
    }
}
