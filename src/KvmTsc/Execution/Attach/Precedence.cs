using KvmTsc.Interop;
using KvmTsc.Processes;

namespace KvmTsc.Execution.Attach;

/// <summary>
/// Precedence of the calling thread over all that is not real-time, while a VM stands still: without it, every thread that is let go takes the
/// CPU from us, and so does the host's other work. Where the kernel does not grant it (CAP_SYS_NICE, RLIMIT_RTPRIO) the stop is longer, and
/// nothing else.
/// </summary>
internal static class Precedence
{
    private const int Normal = 0;
    private static readonly bool s_isAlone = Environment.ProcessorCount == 1;
    private static readonly bool s_isOnlyCpu = KernelFiles.ReadLine("/sys/devices/system/cpu/online") == "0";

    [ThreadStatic]
    private static bool t_taken;

    /// <summary>Takes it; a thread that is real-time already keeps what it has.</summary>
    public static void Take() => t_taken = LibC.GetScheduling() == Normal && Rise();

    public static void GiveBack()
    {
        if (t_taken)
            _ = LibC.SetScheduling(Normal, 0);
        t_taken = false;
    }

    /// <summary>
    /// Lets a thread run that will soon stand still. On the host's only CPU we sleep until it does: we get that CPU back at that instant, and nobody
    /// between could take the news (the others that would run are, above all, .NET's compiler). Elsewhere sleeping takes longer than looking, and
    /// whatever waits in this process might take the news: we would sleep for ever.
    /// </summary>
    public static void GiveWayTo(int threadId)
    {
        if (s_isOnlyCpu && t_taken)
            LibC.WaitidStop(threadId);
        else
            Pause();
    }

    private static bool Rise() => LibC.SetScheduling(LibC.SCHED_FIFO | LibC.SCHED_RESET_ON_FORK, 1);

    /// <summary>
    /// Lets the thread that is waited for get on. Where there are other CPUs it does so on one of them, and we look again at once. One that does not
    /// arrive within the time that this takes waits for a CPU, which must not be ours.
    /// </summary>
    /// <param name="looks">How often it was looked for.</param>
    public static void Pause(int looks = 0)
    {
        const int LooksBeforeSleep = 200;
        const uint SleepMicroseconds = 50;
        if (looks > LooksBeforeSleep)
        {
            _ = LibC.Usleep(SleepMicroseconds);
        }
        else if (s_isAlone && t_taken)
        {
            _ = LibC.SetScheduling(Normal, 0);
            _ = LibC.SchedYield();
            _ = Rise();
        }
        else
        {
            _ = LibC.SchedYield();
        }
    }
}
