using System.Globalization;

namespace KvmTsc.Processes;

/// <summary>What /proc/PID/stat, or a thread's, says.</summary>
/// <param name="State">R running, S or D waiting, T or t stopped, Z ended.</param>
/// <param name="ParentId">The parent process.</param>
/// <param name="StartTime">When it started, in ticks since boot.</param>
internal sealed record ProcessStat(char State, int ParentId, ulong StartTime)
{
    private const int ParentField = 1;
    private const int StartTimeField = 19;

    /// <summary>Whether it has ended.</summary>
    public bool IsDead => State is 'Z' or 'X' or 'x';

    /// <summary>Reads one, null if it is gone.</summary>
    public static ProcessStat? Read(string directory) => KernelFiles.ReadLine($"{directory}/stat") is { } line ? Parse(line) : null;

    /// <summary>Understands one, null if it is none. The process's name, in parentheses, may hold blanks and parentheses itself.</summary>
    public static ProcessStat? Parse(string line)
    {
        var fields = line[(line.LastIndexOf(')') + 1)..].Split(' ', StringSplitOptions.RemoveEmptyEntries);
        return fields.Length > StartTimeField && fields[0].Length == 1
            && int.TryParse(fields[ParentField], NumberStyles.None, CultureInfo.InvariantCulture, out var parent)
            && ulong.TryParse(fields[StartTimeField], NumberStyles.None, CultureInfo.InvariantCulture, out var startTime)
            ? new ProcessStat(fields[0][0], parent, startTime)
            : null;
    }
}
