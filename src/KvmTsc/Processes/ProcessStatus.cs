using System.Globalization;
using System.Runtime.CompilerServices;

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

    /// <summary>The thread.</summary>
    public int ThreadId { get; init; }

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

    /// <summary>One of which the kernel says nothing: as if nothing stood in the way.</summary>
    public ProcessStatus()
    {
    }

    private ProcessStatus(ReadOnlySpan<byte> text)
    {
        while (!text.IsEmpty)
        {
            var end = text.IndexOf((byte)'\n'); // and nowhere else: a name may have other ends of lines in it
            var line = end < 0 ? text : text[..end];
            text = text[line.Length..];
            text = text.IsEmpty ? text : text[1..];
            var colon = line.IndexOf((byte)':');
            if (colon <= 0)
                continue;
            var key = line[..colon];
            var value = line[(colon + 1)..];
            if (key.SequenceEqual("State"u8))
                State = TakeWord(ref value) is [var state, ..] ? (char)state : 'R';
            else if (key.SequenceEqual("Tgid"u8))
                ProcessId = (int)Number(value);
            else if (key.SequenceEqual("Pid"u8))
                ThreadId = (int)Number(value);
            else if (key.SequenceEqual("PPid"u8))
                ParentId = (int)Number(value);
            else if (key.SequenceEqual("TracerPid"u8))
                TracerId = (int)Number(value);
            else if (key.SequenceEqual("Uid"u8))
                UserIds = Ids(value);
            else if (key.SequenceEqual("Gid"u8))
                GroupIds = Ids(value);
            else if (key.SequenceEqual("CapPrm"u8))
                Permitted = Bits(value);
            else if (key.SequenceEqual("CapEff"u8))
                Effective = Bits(value);
            else if (key.SequenceEqual("Seccomp"u8))
                Seccomp = (int)Number(value);
            else if (key.SequenceEqual("NSpid"u8))
                InnermostId = (int)LastNumber(value);
            else if (key.SequenceEqual("SigCgt"u8))
                Caught = Bits(value);
            else if (key.SequenceEqual("x86_Thread_features"u8))
                HasShadowStack = HasWord(value, "shstk"u8);
        }
    }

    /// <summary>Reads one, null if it is gone.</summary>
    [SkipLocalsInit]
    public static ProcessStatus? Read(string directory)
    {
        Span<byte> buffer = stackalloc byte[KernelFiles.UsualLength];
        return KernelFiles.TryRead($"{directory}/status", buffer, out var text) ? Parse(text) : null;
    }

    /// <summary>Reads those of a process's threads that are there.</summary>
    public static IEnumerable<ProcessStatus> ReadThreads(int processId)
    {
        foreach (var id in NumberedDirectory.Read($"/proc/{processId}/task"))
        {
            if (Read($"/proc/{processId}/task/{id}") is { } status)
                yield return status;
        }
    }

    /// <summary>Understands one; what the kernel does not say is as if nothing stood in the way.</summary>
    public static ProcessStatus Parse(ReadOnlySpan<byte> text) => new(text);

    private static uint Number(ReadOnlySpan<byte> value) =>
        uint.TryParse(TakeWord(ref value), NumberStyles.None, CultureInfo.InvariantCulture, out var number) ? number : 0;

    private static ulong Bits(ReadOnlySpan<byte> value) =>
        ulong.TryParse(TakeWord(ref value), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out var bits) ? bits : 0;

    /// <summary>Four ids; none where there are fewer.</summary>
    private static uint[] Ids(ReadOnlySpan<byte> value)
    {
        var ids = new uint[4];
        for (var i = 0; i < ids.Length; i++)
        {
            var word = TakeWord(ref value);
            if (word.IsEmpty)
                return [];
            ids[i] = Number(word);
        }

        return ids;
    }

    private static uint LastNumber(ReadOnlySpan<byte> value)
    {
        var last = value;
        for (var word = TakeWord(ref value); !word.IsEmpty; word = TakeWord(ref value))
            last = word;
        return Number(last);
    }

    private static bool HasWord(ReadOnlySpan<byte> value, ReadOnlySpan<byte> word)
    {
        for (var next = TakeWord(ref value); !next.IsEmpty; next = TakeWord(ref value))
        {
            if (next.SequenceEqual(word))
                return true;
        }

        return false;
    }

    /// <summary>Takes what stands between blanks from the beginning of a text, nothing at its end.</summary>
    private static ReadOnlySpan<byte> TakeWord(scoped ref ReadOnlySpan<byte> text)
    {
        var start = 0;
        while (start < text.Length && IsBlank(text[start]))
            start++;
        var end = start;
        while (end < text.Length && !IsBlank(text[end]))
            end++;
        var word = text[start..end];
        text = text[end..];
        return word;
    }

    private static bool IsBlank(byte character) => character is (byte)' ' or (byte)'\t';
}
