using System.Runtime.InteropServices;

namespace KvmTsc.Interop;

internal static partial class LibC
{
    public const int WNOHANG = 1;
    public const int WALL = 0x40000000;

    [LibraryImport("libc", EntryPoint = "waitpid", SetLastError = true)]
    private static partial int WaitpidNative(int process, out int status, int options);

    /// <returns>Whose status it is, 0 for nobody's, or the negated errno. Interrupted waits go on.</returns>
    public static int Waitpid(int process, out int status, int options)
    {
        int result;
        do
            result = WaitpidNative(process, out status, options);
        while (result < 0 && Marshal.GetLastPInvokeError() == Errno.EINTR);
        return result < 0 ? -Marshal.GetLastPInvokeError() : result;
    }
}
