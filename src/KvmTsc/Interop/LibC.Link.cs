using System.Runtime.InteropServices;

namespace KvmTsc.Interop;

internal static partial class LibC
{
    [LibraryImport("libc", EntryPoint = "link", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int LinkNative(string oldPath, string newPath);

    /// <returns>0, or the negated errno.</returns>
    public static int Link(string oldPath, string newPath) => LinkNative(oldPath, newPath) < 0 ? -Marshal.GetLastPInvokeError() : 0;
}
