using System.Runtime.InteropServices;

namespace KvmTsc.Interop;

internal static partial class LibC
{
    public const int O_RDWR = 2;
    public const int O_NONBLOCK = 0x800;
    public const int O_CLOEXEC = 0x80000;
    public const int O_DIRECTORY = 0x10000;

    [LibraryImport("libc", EntryPoint = "open", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int OpenNative(string path, int flags);

    /// <returns>The descriptor, or the negated errno.</returns>
    public static int Open(string path, int flags)
    {
        var descriptor = OpenNative(path, flags);
        return descriptor < 0 ? -Marshal.GetLastPInvokeError() : descriptor;
    }
}
