using System.Runtime.InteropServices;

namespace KvmTsc.Interop;

internal static partial class LibC
{
    /// <summary>Sleeps; <see cref="Thread.Sleep(TimeSpan)"/> rounds what is below a millisecond to nothing.</summary>
    [LibraryImport("libc", EntryPoint = "usleep")]
    public static partial int Usleep(uint microseconds);
}
