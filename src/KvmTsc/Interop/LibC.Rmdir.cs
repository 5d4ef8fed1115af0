using System.Runtime.InteropServices;

namespace KvmTsc.Interop;

internal static partial class LibC
{
    /// <summary>Removes a directory, also one of the kernel's that has files which only it can remove.</summary>
    [LibraryImport("libc", EntryPoint = "rmdir", StringMarshalling = StringMarshalling.Utf8)]
    public static partial int Rmdir(string path);
}
