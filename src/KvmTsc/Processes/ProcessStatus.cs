using System.Buffers;
using System.Globalization;

namespace KvmTsc.Processes;

/// <summary>What /proc/PID/status, or a thread's, says of who may trace it.</summary>
internal sealed record ProcessStatus
{
    private static readonly SearchValues<char> s_blanks = SearchValues.Create(" \t");

    private const int CapSysPtrace = 19;
    private const int CapSysAdmin = 21;

    /// <summary>R running, S or D waiting, T or t stopped, Z ended.</summary>
    public char State { get; init; } = 'R';

    /// <summary>The process, also where this is of one of its threads.</summary>
    public int ProcessId { get; init; }

    /// <summary>The process's parent.</summary>
    public int ParentId { get; init; }

    /// <summary>The thread that traces it, 0 for none.</summary>
    public int TracerId { get; init; }

    /// <summary>Its real, effective, saved and file system user.</summary>
    public IReadOnlyList<uint> UserIds { get; init; } = [];

    /// <summary>Its real, effective, saved and file system group.</summary>
    public IReadOnlyList<uint> GroupIds { get; init; } = [];

    /// <summary>The capabilities that it may have.</summary>
    public ulong Permitted { get; init; }

    /// <summary>The capabilities that it has.</summary>
    public ulong Effective { get; init; }

    /// <summary>The thread's or the process's id in the innermost pid namespace, which is how it knows itself.</summary>
    public int InnermostId { get; init; }

    /// <summary>The signals that the process handles itself.</summary>
    public ulong Caught { get; init; }

    /// <summary>0 none, 1 strict, 2 a filter.</summary>
    public int Seccomp { get; init; }

    /// <summary>Whether its return addresses are guarded by a shadow stack.</summary>
    public bool HasShadowStack { get; init; }

    /// <summary>Whether it may trace processes of other users.</summary>
    public bool MayTraceAny => (Effective & (1UL << CapSysPtrace)) != 0;

    /// <summary>Whether it administers the system.</summary>
    public bool IsAdministrator => (Effective & (1UL << CapSysAdmin)) != 0;

    /// <summary>Whether it is under a seccomp filter.</summary>
    public bool IsFiltered => Seccomp != 0;

    /// <summary>Whether it handles a signal itself.</summary>
    public bool Catches(int signal) => (Caught >> (signal - 1) & 1) != 0;

    /// <summary>Whether it has ended.</summary>
    public bool IsDead => State is 'Z' or 'X' or 'x';

    /// <summary>Reads one, null if it is gone.</summary>
    public static ProcessStatus? Read(string directory) => KernelFiles.ReadText($"{directory}/status") is { } text ? Parse(text) : null;

    /// <summary>Reads those of a process's threads that are there.</summary>
    public static IEnumerable<ProcessStatus> ReadThreads(int processId) =>
        NumberedDirectory.Read($"/proc/{processId}/task").Select(id => Read($"/proc/{processId}/task/{id}")).OfType<ProcessStatus>();

    /// <summary>Understands one; what the kernel does not say is as if nothing stood in the way.</summary>
    public static ProcessStatus Parse(string text)
    {
        var status = new ProcessStatus();
        var all = text.AsSpan();
        foreach (var range in all.Split('\n')) // and nowhere else: a name may have other ends of lines in it
        {
            var line = all[range];
            var colon = line.IndexOf(':');
            if (colon <= 0)
                continue;
            var value = line[(colon + 1)..].Trim();
            status = line[..colon] switch
            {
                "State" => status with { State = value is [var state, ..] ? state : 'R' },
                "Tgid" => status with { ProcessId = (int)Number(value) },
                "PPid" => status with { ParentId = (int)Number(value) },
                "TracerPid" => status with { TracerId = (int)Number(value) },
                "Uid" => status with { UserIds = Numbers(value) },
                "Gid" => status with { GroupIds = Numbers(value) },
                "CapPrm" => status with { Permitted = Bits(value) },
                "CapEff" => status with { Effective = Bits(value) },
                "Seccomp" => status with { Seccomp = (int)Number(value) },
                "NSpid" => status with { InnermostId = (int)Number(value[(value.LastIndexOfAny(s_blanks) + 1)..]) },
                "SigCgt" => status with { Caught = Bits(value) },
                "x86_Thread_features" => status with { HasShadowStack = value.Contains("shstk", StringComparison.Ordinal) },
                _ => status,
            };
        }

        return status;
    }

    private static uint Number(ReadOnlySpan<char> value) => uint.TryParse(value, NumberStyles.None, CultureInfo.InvariantCulture, out var number) ? number : 0;

    private static uint[] Numbers(ReadOnlySpan<char> value)
    {
        var numbers = new List<uint>(4);
        foreach (var range in value.SplitAny(s_blanks))
        {
            if (!value[range].IsEmpty)
                numbers.Add(Number(value[range]));
        }

        return [.. numbers];
    }

    private static ulong Bits(ReadOnlySpan<char> value) =>
        ulong.TryParse(value, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out var bits) ? bits : 0;
}
