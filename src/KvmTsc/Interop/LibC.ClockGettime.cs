using System.Runtime.InteropServices;

namespace KvmTsc.Interop;

internal static unsafe partial class LibC
{
    public const int CLOCK_REALTIME = 0;
    public const int CLOCK_MONOTONIC = 1;
    public const int CLOCK_MONOTONIC_RAW = 4;
    public const int CLOCK_BOOTTIME = 7;

    [LibraryImport("libc", EntryPoint = "clock_gettime")]
    private static partial int ClockGettime(int clock, long* time);

    /// <summary>A clock of the kernel's, in nanoseconds.</summary>
    public static ulong ClockNanoseconds(int clock)
    {
        var time = stackalloc long[2]; // struct timespec
        _ = ClockGettime(clock, time); // which fails for no clock that there is
        return ((ulong)time[0] * 1_000_000_000) + (ulong)time[1];
    }
}
