using System.Globalization;

namespace KvmTsc.Processes;

/// <summary>What /proc/PID/stat, or a thread's, says.</summary>
/// <param name="State">R running, S or D waiting, T or t stopped, Z ended.</param>
/// <param name="ParentId">The parent process.</param>
/// <param name="Flags">Its <c>PF_</c> flags, include/linux/sched.h.</param>
/// <param name="StartTime">When it started, in ticks since boot.</param>
internal sealed record ProcessStat(char State, int ParentId, uint Flags, ulong StartTime)
{
    private const int ParentField = 1;
    private const int FlagsField = 6;
    private const int StartTimeField = 19;

    private const uint IoWorker = 0x10;
    private const uint UserWorker = 0x4000;

    /// <summary>Whether it has ended.</summary>
    public bool IsDead => State is 'Z' or 'X' or 'x';

    /// <summary>
    /// Whether it is a thread of the kernel's that counts among the process's: of io_uring, of vhost since Linux 6.4, of KVM's (kvm-nx-lpage-recovery) since 6.12. It never runs the
    /// process's program, though procfs shows the system call of the thread that it was made by as its own. (Linux 5.16 has the second flag for threads that loaded modules.)
    /// </summary>
    public bool IsKernelWorker => (Flags & (IoWorker | UserWorker)) != 0;

    /// <summary>Reads one, null if it is gone.</summary>
    public static ProcessStat? Read(string directory) => KernelFiles.ReadLine($"{directory}/stat") is { } line ? Parse(line) : null;

    /// <summary>Understands one, null if it is none. The process's name, in parentheses, may hold blanks and parentheses itself.</summary>
    public static ProcessStat? Parse(string line)
    {
        Span<Range> ranges = stackalloc Range[StartTimeField + 2];
        var text = line.AsSpan(line.LastIndexOf(')') + 1);
        return text.Split(ranges, ' ', StringSplitOptions.RemoveEmptyEntries) > StartTimeField && text[ranges[0]].Length == 1
            && int.TryParse(text[ranges[ParentField]], NumberStyles.None, CultureInfo.InvariantCulture, out var parent)
            && uint.TryParse(text[ranges[FlagsField]], NumberStyles.None, CultureInfo.InvariantCulture, out var flags)
            && ulong.TryParse(text[ranges[StartTimeField]], NumberStyles.None, CultureInfo.InvariantCulture, out var startTime)
            ? new ProcessStat(text[ranges[0]][0], parent, flags, startTime)
            : null;
    }
}
