using System.Globalization;

namespace KvmTsc.PowerShell.Wording;

/// <summary>Values as questions and messages show them.</summary>
internal static class Text
{
    /// <summary>Nanoseconds as seconds.</summary>
    public static string Seconds(ulong nanoseconds) => string.Create(CultureInfo.InvariantCulture, $"{nanoseconds / 1_000_000_000}.{nanoseconds % 1_000_000_000:D9} s");

    /// <summary>CLOCK_REALTIME as a date.</summary>
    public static string Realtime(ulong nanoseconds) => nanoseconds / 100 > (ulong)(DateTime.MaxValue - DateTime.UnixEpoch).Ticks
        ? $"{nanoseconds} ns"
        : DateTime.UnixEpoch.AddTicks((long)(nanoseconds / 100)).ToString("yyyy-MM-dd HH:mm:ss.fffffff'Z'", CultureInfo.InvariantCulture);

    /// <summary>Values of vCPUs, once if they are all the same.</summary>
    public static string Common<T>(IEnumerable<T> values)
    {
        var distinct = values.Distinct().Take(5).Select(value => string.Create(CultureInfo.InvariantCulture, $"{value}")).ToArray();
        return string.Join(", ", distinct.Take(4)) + (distinct.Length > 4 ? ", ..." : "");
    }
}
