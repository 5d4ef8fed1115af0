using System.Runtime.InteropServices;

namespace KvmTsc.Interop;

internal static partial class LibC
{
    [LibraryImport("libc", EntryPoint = "close")]
    public static partial int Close(nint descriptor);
}
