using System.Runtime.InteropServices;

namespace KvmTsc.Interop;

internal static partial class LibC
{
    public const int AT_FDCWD = -100;
    public const uint RENAME_NOREPLACE = 1;

    [LibraryImport("libc", EntryPoint = "renameat2", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int RenameNative(int oldDirectory, string oldPath, int newDirectory, string newPath, uint flags);

    /// <returns>0, or the negated errno: <c>EINVAL</c> also where the file system does not know a flag.</returns>
    public static int Rename(string oldPath, string newPath, uint flags) =>
        RenameNative(AT_FDCWD, oldPath, AT_FDCWD, newPath, flags) < 0 ? -Marshal.GetLastPInvokeError() : 0;
}
