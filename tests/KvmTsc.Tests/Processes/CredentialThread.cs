using System.Runtime.ExceptionServices;
using System.Runtime.InteropServices;

namespace KvmTsc.Tests.Processes;

/// <summary>
/// Does something as another user, without a process of its own: to the kernel credentials are those of a thread. Also traces processes,
/// since a tracer is a thread.
/// </summary>
internal static partial class CredentialThread
{
    private const nint SYS_setresuid = 117;
    private const nint SYS_setresgid = 119;
    private const int PR_SET_DUMPABLE = 4;
    private const nint PTRACE_SEIZE = 0x4206;
    private const nint PTRACE_O_SUSPEND_SECCOMP = 1 << 21;

    /// <summary>Does something in a thread of a user, whose group has the same number.</summary>
    public static T RunAs<T>(int user, Func<T> action)
    {
        T result = default!;
        ExceptionDispatchInfo? failure = null;
        var thread = new Thread(() =>
        {
            try
            {
                Become(user);
                result = action();
            }
            catch (Exception exception)
            {
                failure = ExceptionDispatchInfo.Capture(exception);
            }
        });
        thread.Start();
        thread.Join();
        failure?.Throw();
        return result;
    }

    /// <summary>Traces a process, without stopping it, until this thread ends. Returns 0 or the error number.</summary>
    public static int Seize(int processId, bool suspendSeccomp = false) =>
        Ptrace(PTRACE_SEIZE, processId, 0, suspendSeccomp ? PTRACE_O_SUSPEND_SECCOMP : 0) == 0 ? 0 : Marshal.GetLastPInvokeError();

    private static void Become(int user)
    {
        if (user == 0)
            return;
        Assert.Equal(0, Syscall(SYS_setresgid, user, user, user));
        Assert.Equal(0, Syscall(SYS_setresuid, user, user, user));
        // The change hides this process from its own kind.
        Assert.Equal(0, Prctl(PR_SET_DUMPABLE, 1));
    }

    [LibraryImport("libc", EntryPoint = "syscall", SetLastError = true)]
    private static partial nint Syscall(nint number, nint real, nint effective, nint saved);

    [LibraryImport("libc", EntryPoint = "prctl")]
    private static partial int Prctl(int option, nint value);

    [LibraryImport("libc", EntryPoint = "ptrace", SetLastError = true)]
    private static partial nint Ptrace(nint request, nint processId, nint address, nint data);
}
