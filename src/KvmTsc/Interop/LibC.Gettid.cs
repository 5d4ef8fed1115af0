using System.Runtime.InteropServices;

namespace KvmTsc.Interop;

internal static partial class LibC
{
    [LibraryImport("libc", EntryPoint = "gettid")]
    public static partial int Gettid();
}
