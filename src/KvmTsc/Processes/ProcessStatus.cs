using System.Globalization;

namespace KvmTsc.Processes;

/// <summary>What /proc/PID/status, or a thread's, says of who may trace it.</summary>
internal sealed record ProcessStatus
{
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
        var values = new Dictionary<string, string>(StringComparer.Ordinal);
        foreach (var line in text.Split('\n'))
        {
            var colon = line.IndexOf(':', StringComparison.Ordinal);
            if (colon > 0)
                values.TryAdd(line[..colon], line[(colon + 1)..].Trim());
        }

        return new ProcessStatus
        {
            State = values.GetValueOrDefault("State") is [var state, ..] ? state : 'R',
            ProcessId = (int)Number(values, "Tgid"),
            ParentId = (int)Number(values, "PPid"),
            TracerId = (int)Number(values, "TracerPid"),
            UserIds = Numbers(values, "Uid"),
            GroupIds = Numbers(values, "Gid"),
            Permitted = Bits(values, "CapPrm"),
            Effective = Bits(values, "CapEff"),
            Seccomp = (int)Number(values, "Seccomp"),
            InnermostId = Numbers(values, "NSpid") is [.., var innermost] ? (int)innermost : 0,
            Caught = Bits(values, "SigCgt"),
            HasShadowStack = values.GetValueOrDefault("x86_Thread_features")?.Contains("shstk", StringComparison.Ordinal) ?? false,
        };
    }

    private static uint Number(Dictionary<string, string> values, string name) => Numbers(values, name) is [var number, ..] ? number : 0;

    private static uint[] Numbers(Dictionary<string, string> values, string name) =>
    [
        .. (values.GetValueOrDefault(name) ?? "")
            .Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries)
            .Select(value => uint.TryParse(value, NumberStyles.None, CultureInfo.InvariantCulture, out var number) ? number : 0),
    ];

    private static ulong Bits(Dictionary<string, string> values, string name) =>
        ulong.TryParse(values.GetValueOrDefault(name), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out var bits) ? bits : 0;
}
