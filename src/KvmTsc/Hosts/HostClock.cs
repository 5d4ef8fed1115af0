using System.Runtime.InteropServices;
using KvmTsc.Interop;

namespace KvmTsc.Hosts;

/// <summary>CLOCK_REALTIME of this host and how well it is synchronised.</summary>
internal sealed record HostClock(int Status, long MaxErrorMicroseconds, long EstimatedErrorMicroseconds, double SlewPpm, int TaiOffsetSeconds)
{
    private const int NominalTick = 10_000;

    /// <summary>The most that the kernel makes up for by slewing, <c>MAXPHASE</c> in linux/timex.h.</summary>
    private const long MostSlewedMicroseconds = 500_000;

    public bool Synchronized => IsSynchronized(Status);

    /// <summary>The host's TSC and CLOCK_REALTIME.</summary>
    public static HostInstant Now => Tightest(HostTsc.Read, static tsc => new HostInstant(tsc, LibC.ClockNanoseconds(LibC.CLOCK_REALTIME)));

    /// <summary>What a status word of adjtimex(2) says.</summary>
    public static bool IsSynchronized(int status) => (status & Timex.Unsynchronized) == 0;

    /// <summary>
    /// The host's TSC and CLOCK_REALTIME, CLOCK_MONOTONIC_RAW, and for how long the host was suspended; all clocks in nanoseconds, within a microsecond or so.
    /// </summary>
    public static (HostInstant Now, ulong MonotonicRaw, ulong Suspended) ReadAll() => Tightest(HostTsc.Read, static tsc =>
    {
        var suspended = LibC.ClockNanoseconds(LibC.CLOCK_BOOTTIME) - LibC.ClockNanoseconds(LibC.CLOCK_MONOTONIC);
        var now = new HostInstant(tsc, LibC.ClockNanoseconds(LibC.CLOCK_REALTIME));
        return (now, LibC.ClockNanoseconds(LibC.CLOCK_MONOTONIC_RAW), suspended > long.MaxValue ? 0 : suspended);
    });

    /// <summary>
    /// Reads several clocks, again where that took long, since something else got the CPU meanwhile, and gives what took least: readings that are milliseconds
    /// apart look like clocks that disagree.
    /// </summary>
    /// <param name="readTsc">Reads the TSC.</param>
    /// <param name="read">Reads the others, given the TSC just before.</param>
    internal static T Tightest<T>(Func<ulong> readTsc, Func<ulong, T> read)
    {
        const int MostReadings = 20;
        const ulong EnoughTicks = 10_000; // some microseconds
        var least = ulong.MaxValue;
        var tightest = default(T)!;
        for (var i = 0; i < MostReadings && least > EnoughTicks; i++)
        {
            var before = readTsc();
            var reading = read(before);
            if (readTsc() - before is var took && took < least)
                (least, tightest) = (took, reading);
        }

        return tightest;
    }

    /// <summary>
    /// By how much CLOCK_REALTIME may be off, by what adjtimex(2) says. Some NTP clients (systemd-timesyncd) set the maximum error to 0 while there is up to
    /// 0.4 s to make up for: that is added, and an error of 0, or one that is less than the estimated one, is not believed.
    /// </summary>
    public static long MaximumError(in Timex timex)
    {
        var error = timex.MaxError == 0 ? Math.Max(timex.EstimatedError, MostSlewedMicroseconds) : Math.Max(timex.MaxError, timex.EstimatedError);
        var offset = Math.Abs(timex.Offset);
        return error + ((timex.Status & Timex.IsInNanoseconds) != 0 ? (offset + 999) / 1000 : offset);
    }

    /// <summary>Asks adjtimex(2).</summary>
    public static HostClock Read()
    {
        var timex = default(Timex);
        if (LibC.Adjtimex(ref timex) < 0)
            throw KvmException.FromErrno("adjtimex", Marshal.GetLastPInvokeError());
        return new HostClock(
            timex.Status,
            MaximumError(timex),
            timex.EstimatedError,
            (timex.Frequency / 65536.0) + ((timex.Tick - NominalTick) * 100.0),
            timex.Tai);
    }
}
