using System.Runtime.InteropServices;

namespace KvmTsc.Interop;

internal static partial class LibC
{
    public const int AT_SYMLINK_NOFOLLOW = 0x100;

    [LibraryImport("libc", EntryPoint = "statx", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int StatxNative(int directory, string path, int flags, uint mask, out Statx result);

    /// <returns>0, or the negated errno.</returns>
    public static int Stat(string path, int flags, out Statx result) =>
        StatxNative(AT_FDCWD, path, flags, Statx.BasicStats, out result) < 0 ? -Marshal.GetLastPInvokeError() : 0;
}
