using System.Runtime.InteropServices;

namespace KvmTsc.Interop;

internal static partial class LibC
{
    [LibraryImport("libc", EntryPoint = "sched_yield")]
    public static partial int SchedYield();
}
