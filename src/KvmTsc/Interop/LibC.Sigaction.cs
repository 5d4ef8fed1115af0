using System.Runtime.InteropServices;

namespace KvmTsc.Interop;

internal static unsafe partial class LibC
{
    private const int SIGCHLD = 17;
    private const int SA_NOCLDSTOP = 1;
    private const int SigactionSize = 152;
    private const int SigactionFlagsOffset = 136;

    [LibraryImport("libc", EntryPoint = "sigaction")]
    private static partial int Sigaction(int signal, byte* action, byte* oldAction);

    /// <summary>
    /// Asks for no SIGCHLD when a child or a traced thread merely stops. .NET's handler would take such a stop for the end of the child.
    /// </summary>
    public static void IgnoreChildStops()
    {
        var action = stackalloc byte[SigactionSize];
        if (Sigaction(SIGCHLD, null, action) != 0 || (*(int*)(action + SigactionFlagsOffset) & SA_NOCLDSTOP) != 0)
            return;
        *(int*)(action + SigactionFlagsOffset) |= SA_NOCLDSTOP;
        _ = Sigaction(SIGCHLD, action, null);
    }
}
