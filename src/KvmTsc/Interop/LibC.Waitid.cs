using System.Runtime.InteropServices;

namespace KvmTsc.Interop;

internal static unsafe partial class LibC
{
    private const int WNOHANG = 1;
    private const int WSTOPPED = 2;
    private const int WEXITED = 4;
    private const int WNOWAIT = 0x0100_0000;
    private const int WALL = 0x4000_0000;

    /// <summary>The size of a siginfo_t.</summary>
    public const int SignalInfoSize = 128;

    private const int P_PID = 1;
    private const int SignalCodeOffset = 8;
    private const int ProcessIdOffset = 16;
    private const int CLD_DUMPED = 3; // after CLD_EXITED and CLD_KILLED; what is above are stops

    [LibraryImport("libc", EntryPoint = "waitid", SetLastError = true)]
    private static partial int WaitidNative(int idType, int id, byte* info, int options);

    [LibraryImport("libc", EntryPoint = "waitid")]
    private static partial int WaitidQuietly(int idType, int id, byte* info, int options);

    /// <summary>Whether a child or a traced thread has ended, or is none of ours. Does not wait.</summary>
    /// <param name="id">The child or thread.</param>
    /// <param name="isTaken">Takes the news, so that the kernel forgets what is left of it.</param>
    public static bool WaitidEnded(int id, bool isTaken)
    {
        var info = stackalloc byte[SignalInfoSize];
        *(int*)(info + ProcessIdOffset) = 0; // stays so where there is nothing to tell
        if (WaitidNative(P_PID, id, info, WEXITED | WNOHANG | WALL | (isTaken ? 0 : WNOWAIT)) < 0)
            return Marshal.GetLastPInvokeError() == Errno.ECHILD;
        return *(int*)(info + ProcessIdOffset) != 0 && *(int*)(info + SignalCodeOffset) <= CLD_DUMPED;
    }

    /// <summary>Waits until a traced thread stands still or has ended, and leaves the news for others. May return earlier.</summary>
    public static void WaitidStop(int id)
    {
        var info = stackalloc byte[SignalInfoSize];
        _ = WaitidQuietly(P_PID, id, info, WSTOPPED | WEXITED | WNOWAIT | WALL);
    }

    /// <summary>Takes the news that a traced thread stands still, if nobody has, so that nobody else hears it.</summary>
    public static void WaitidTakeStop(int id)
    {
        var info = stackalloc byte[SignalInfoSize];
        _ = WaitidQuietly(P_PID, id, info, WSTOPPED | WNOHANG | WALL);
    }
}
