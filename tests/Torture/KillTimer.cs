using System.ComponentModel;
using System.Runtime.InteropServices;

namespace KvmTsc.Torture;

/// <summary>
/// Has the kernel kill this process at an instant: a timer that sends SIGKILL, more exact than any other process could be.
/// </summary>
internal sealed unsafe class KillTimer
{
    private const int SysTimerCreate = 222;
    private const int SysTimerSettime = 223;
    private const int ClockMonotonic = 1;
    private readonly int _id;

    public KillTimer()
    {
        var request = new SignalEvent { Signal = Native.SigKill };
        int id;
        if (Native.Syscall(SysTimerCreate, ClockMonotonic, (nint)(&request), (nint)(&id), 0) < 0)
            throw new Win32Exception();
        _id = id;
    }

    public void Set(TimeSpan delay)
    {
        const long NanosecondsPerSecond = 1_000_000_000;
        var nanoseconds = Math.Max(1, (long)delay.TotalNanoseconds);
        var once = stackalloc long[] { 0, 0, nanoseconds / NanosecondsPerSecond, nanoseconds % NanosecondsPerSecond };
        if (Native.Syscall(SysTimerSettime, _id, 0, (nint)once, 0) < 0)
            throw new Win32Exception();
    }

    // struct sigevent, SIGEV_SIGNAL
    [StructLayout(LayoutKind.Sequential, Size = 64)]
    private struct SignalEvent
    {
        public long Value;
        public int Signal;
        public int Notify;
    }
}
