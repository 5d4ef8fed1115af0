using System.Globalization;

namespace KvmTsc.Execution.Attach;

/// <summary>What <c>/proc/PID/status</c> tells of a process or a thread.</summary>
internal sealed class TargetStatus
{
    private readonly Dictionary<string, string> _fields;

    private TargetStatus(Dictionary<string, string> fields) => _fields = fields;

    /// <summary>Reads it, null if there is no such process or thread.</summary>
    public static TargetStatus? Read(string directory)
    {
        try
        {
            return new TargetStatus(File.ReadLines($"{directory}/status")
                .Select(line => line.Split(':', 2))
                .Where(parts => parts.Length == 2)
                .ToDictionary(parts => parts[0], parts => parts[1].Trim()));
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    /// <summary>R, S, D, T, t, Z or X.</summary>
    public char State => Text("State") is [var state, ..] ? state : '?';

    /// <summary>Who traces it, 0 for nobody.</summary>
    public int TracerId => Number("TracerPid");

    /// <summary>Whether a seccomp filter is in force.</summary>
    public bool HasSeccomp => Number("Seccomp") != 0;

    /// <summary>Whether the thread's return addresses are guarded by a shadow stack.</summary>
    public bool HasShadowStack => Text("x86_Thread_features").Contains("shstk", StringComparison.Ordinal);

    /// <summary>The id in the innermost pid namespace, which is what the process itself knows.</summary>
    public int InnermostId => int.Parse(Text("NSpid").Split('\t', ' ')[^1], CultureInfo.InvariantCulture);

    /// <summary>Which user it runs as.</summary>
    public int UserId => int.Parse(Text("Uid").Split('\t', ' ')[0], CultureInfo.InvariantCulture);

    /// <summary>Whether the process handles a signal itself.</summary>
    public bool Catches(int signal) => (Mask("SigCgt") >> (signal - 1) & 1) != 0;

    private ulong Mask(string name) => ulong.TryParse(Text(name), NumberStyles.HexNumber, CultureInfo.InvariantCulture, out var mask) ? mask : 0;

    private int Number(string name) => int.TryParse(Text(name), CultureInfo.InvariantCulture, out var number) ? number : 0;

    private string Text(string name) => _fields.GetValueOrDefault(name, "");
}
