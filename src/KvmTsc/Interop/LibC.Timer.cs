using System.Runtime.InteropServices;

namespace KvmTsc.Interop;

/// <summary>Timers of this process, timer_create(2). By number, since glibc before 2.34 has them in another library.</summary>
internal static unsafe partial class LibC
{
    private const nint SYS_timer_create = 222;
    private const nint SYS_timer_settime = 223;
    private const nint SYS_timer_delete = 226;

    [LibraryImport("libc", EntryPoint = "syscall")]
    private static partial nint SystemCallNative(nint number, nint first, nint second, nint third, nint fourth);

    /// <summary>Creates a timer that sends this process a signal when it runs out; null where the kernel does not give one.</summary>
    public static int? CreateSignalTimer(int signal)
    {
        int timer;
        var what = new SignalEvent { Signal = signal };
        return SystemCallNative(SYS_timer_create, CLOCK_MONOTONIC, (nint)(&what), (nint)(&timer), 0) == 0 ? timer : null;
    }

    /// <summary>Has a timer run out after some time from now, and again and again after as long.</summary>
    public static void SetTimer(int timer, TimeSpan time)
    {
        var (seconds, nanoseconds) = ((long)time.TotalSeconds, (time.Microseconds * 1000L) + (time.Milliseconds * 1_000_000L));
        var value = stackalloc long[4]; // struct itimerspec: the interval, and the time
        (value[0], value[1], value[2], value[3]) = (seconds, nanoseconds, seconds, nanoseconds);
        _ = SystemCallNative(SYS_timer_settime, timer, 0, (nint)value, 0);
    }

    /// <summary>Deletes a timer.</summary>
    public static void DeleteTimer(int timer) => _ = SystemCallNative(SYS_timer_delete, timer, 0, 0, 0);

    /// <summary><c>struct sigevent</c>, of the kind that sends a signal (SIGEV_SIGNAL, 0).</summary>
    [StructLayout(LayoutKind.Sequential, Size = 64)]
    private struct SignalEvent
    {
        public nint Value;
        public int Signal;
        public int Notify;
    }
}
