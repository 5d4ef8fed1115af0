using System.Runtime.InteropServices;

namespace KvmTsc.Interop;

internal static partial class LibC
{
    public const int PTRACE_POKEDATA = 5;
    public const int PTRACE_CONT = 7;
    public const int PTRACE_GETREGS = 12;
    public const int PTRACE_SETREGS = 13;
    public const int PTRACE_DETACH = 17;
    public const int PTRACE_SYSCALL = 24;
    public const int PTRACE_SETOPTIONS = 0x4200;
    public const int PTRACE_GETEVENTMSG = 0x4201;
    public const int PTRACE_GETSIGINFO = 0x4202;
    public const int PTRACE_GETREGSET = 0x4204;
    public const int PTRACE_SEIZE = 0x4206;
    public const int PTRACE_INTERRUPT = 0x4207;
    public const int PTRACE_LISTEN = 0x4208;
    public const int PTRACE_GETSIGMASK = 0x420A;
    public const int PTRACE_SETSIGMASK = 0x420B;
    public const int PTRACE_SECCOMP_GET_FILTER = 0x420C;
    public const int PTRACE_GET_RSEQ_CONFIGURATION = 0x420F;
    public const int PTRACE_O_TRACESYSGOOD = 1;
    public const int PTRACE_O_TRACECLONE = 8;
    public const int PTRACE_O_SUSPEND_SECCOMP = 1 << 21;
    public const int PTRACE_EVENT_CLONE = 3;
    public const int PTRACE_EVENT_STOP = 128;
    public const int NT_X86_XSTATE = 0x202;

    // Hundreds of these make up a stop, and none of them waits: each is a plain call, with nothing between it and its errno.
    [SuppressGCTransition]
    [LibraryImport("libc", EntryPoint = "ptrace")]
    private static partial nint PtraceNative(int request, int thread, nint address, nint data);

    /// <returns>The result, or the negated errno.</returns>
    public static int Ptrace(int request, int thread, nint address, nint data)
    {
        var result = PtraceNative(request, thread, address, data);
        return result < 0 ? -Marshal.GetLastSystemError() : (int)result;
    }
}
