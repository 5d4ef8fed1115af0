using System.Runtime.InteropServices;

namespace KvmTsc.Interop;

internal static unsafe partial class LibC
{
    public const int SCHED_FIFO = 1;
    public const int SCHED_RESET_ON_FORK = 0x40000000;

    [LibraryImport("libc", EntryPoint = "sched_setscheduler")]
    private static partial int SchedSetscheduler(int thread, int policy, int* priority);

    [LibraryImport("libc", EntryPoint = "sched_getscheduler")]
    private static partial int SchedGetscheduler(int thread);

    /// <summary>The calling thread's policy.</summary>
    public static int GetScheduling() => SchedGetscheduler(0);

    /// <summary>Has the calling thread scheduled otherwise; returns whether the kernel does.</summary>
    public static bool SetScheduling(int policy, int priority) => SchedSetscheduler(0, policy, &priority) == 0;
}
