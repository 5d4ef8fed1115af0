using System.Runtime.InteropServices;
using KvmTsc.Interop;

namespace KvmTsc.Hosts;

/// <summary>CLOCK_REALTIME of this host and how well it is synchronised.</summary>
internal sealed record HostClock(int Status, long MaxErrorMicroseconds, long EstimatedErrorMicroseconds, double SlewPpm, int TaiOffsetSeconds)
{
    private const int NominalTick = 10_000;

    public bool Synchronized => IsSynchronized(Status);

    /// <summary>CLOCK_REALTIME in nanoseconds, to the 100 ns of .NET's clock.</summary>
    public static ulong RealtimeNow => (ulong)(DateTime.UtcNow - DateTime.UnixEpoch).Ticks * 100;

    /// <summary>What a status word of adjtimex(2) says.</summary>
    public static bool IsSynchronized(int status) => (status & Timex.Unsynchronized) == 0;

    /// <summary>Asks adjtimex(2).</summary>
    public static HostClock Read()
    {
        var timex = default(Timex);
        if (LibC.Adjtimex(ref timex) < 0)
            throw KvmException.FromErrno("adjtimex", Marshal.GetLastPInvokeError());
        return new HostClock(
            timex.Status,
            timex.MaxError,
            timex.EstimatedError,
            (timex.Frequency / 65536.0) + ((timex.Tick - NominalTick) * 100.0),
            timex.Tai);
    }
}
