namespace KvmTsc.Torture;

/// <summary>
/// Kills a process after a given one of its acts: of its system calls, each of those by which it changes a process that it traces, or what that does next. One
/// after the other, these are all instants at which a tracer can die, as far as what it traces can tell.
/// </summary>
internal sealed unsafe class Stepper
{
    private const int SysPwrite = 18;
    private const int SysPtrace = 101;
    private const int SysWriteMemory = 311;
    private const int SigTrap = 5;
    private const int SystemCallStop = SigTrap | 0x80;
    private const int WaitForAll = 0x40000000; // __WALL
    private const int Syscall = 24;
    private const int GetRegs = 12;
    private const int Seize = 0x4206;
    private const int SystemCallsMarked = 1;
    private const int NewThreadsToo = 1 << 3;
    private const int KilledWithUs = 1 << 20;
    private const int RegisterCount = 27;
    private const int SecondArgument = 13;
    private const int FirstArgument = 14;
    private const int Number = 15;

    // Those that only look: PTRACE_GETREGS, GETEVENTMSG, GETSIGINFO, GETREGSET, GETSIGMASK, SECCOMP_GET_FILTER, GET_RSEQ_CONFIGURATION.
    private static readonly ulong[] s_looks = [12, 0x4201, 0x4202, 0x4204, 0x420A, 0x420C, 0x420F];

    private readonly int _process;
    private readonly HashSet<int> _inSystemCall = [];
    private readonly ulong[] _registers = new ulong[RegisterCount];

    private Stepper(int process) => _process = process;

    /// <summary>How many of its acts it has done.</summary>
    public int Acts { get; private set; }

    /// <summary>What it did last that counts.</summary>
    public string LastAct { get; private set; } = "nothing";

    /// <summary>Traces a process whose threads, those that it is yet to start, are to be stepped through.</summary>
    public static Stepper Trace(int process)
    {
        if (Native.Ptrace(Seize, process, 0, SystemCallsMarked | NewThreadsToo | KilledWithUs) < 0)
            throw new System.ComponentModel.Win32Exception();
        return new Stepper(process);
    }

    /// <summary>Lets it go on until it has ended, or done so many acts: then it is killed.</summary>
    /// <returns>The status that it ended with.</returns>
    public int KillAfter(int acts)
    {
        while (true)
        {
            var thread = Native.Waitpid(-1, out var status, WaitForAll);
            if (thread < 0)
                throw new System.ComponentModel.Win32Exception();
            if ((status & 0x7F) != 0x7F)
            {
                if (thread == _process)
                    return status;
                continue;
            }

            var signal = status >> 8 & 0xFF;
            if (signal == SystemCallStop && HasActed(thread) && ++Acts == acts)
                _ = Native.Kill(_process, Native.SigKill);
            var isSignal = status >> 16 == 0 && signal != SystemCallStop;
            _ = Native.Ptrace(Syscall, thread, 0, isSignal ? signal : 0); // which fails where it has just been killed
        }
    }

    /// <summary>Whether a thread that stands at a system call has just done what counts.</summary>
    private bool HasActed(int thread)
    {
        if (_inSystemCall.Add(thread))
            return false;
        _ = _inSystemCall.Remove(thread);
        fixed (ulong* registers = _registers)
        {
            if (Native.Ptrace(GetRegs, thread, 0, (nint)registers) < 0) // it has just been killed
                return false;
        }

        var request = _registers[FirstArgument];
        var act = _registers[Number] switch
        {
            SysPtrace when !s_looks.Contains(request) => $"ptrace 0x{request:x} of thread {_registers[SecondArgument]}",
            SysWriteMemory or SysPwrite => "writing memory",
            _ => null,
        };
        LastAct = act ?? LastAct;
        return act is not null;
    }
}
