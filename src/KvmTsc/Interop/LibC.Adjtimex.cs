using System.Runtime.InteropServices;

namespace KvmTsc.Interop;

internal static partial class LibC
{
    /// <returns>The clock's state (<c>TIME_OK</c> ... <c>TIME_ERROR</c>), or -1.</returns>
    [LibraryImport("libc", EntryPoint = "adjtimex", SetLastError = true)]
    public static partial int Adjtimex(ref Timex timex);
}
