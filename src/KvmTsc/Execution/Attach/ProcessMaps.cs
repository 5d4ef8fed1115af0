using System.Globalization;

namespace KvmTsc.Execution.Attach;

/// <summary>The memory mappings of a process.</summary>
internal sealed class ProcessMaps
{
    private const ulong Lowest = 0x0000_0010_0000_0000;
    private const ulong Highest = 0x0000_7000_0000_0000;
    private const ulong Distance = 1UL << 30;

    private readonly List<Mapping> _mappings;

    private ProcessMaps(List<Mapping> mappings) => _mappings = mappings;

    /// <summary>One mapping.</summary>
    public sealed record Mapping(ulong Start, ulong End, string Protection, ulong Offset, string Device, string Inode, string Path)
    {
        public bool IsReadable => Protection[0] == 'r';

        public bool IsExecutable => Protection[2] == 'x';
    }

    /// <summary>The mappings, ascending; none once the process is on its way out.</summary>
    public IReadOnlyList<Mapping> All => _mappings;

    public static ProcessMaps Read(int processId) => Of(File.ReadLines($"/proc/{processId}/maps"));

    /// <summary>Understands lines of /proc/PID/maps.</summary>
    public static ProcessMaps Of(IEnumerable<string> lines) => new([.. lines.Select(Parse)]);

    /// <summary>
    /// An address far from every mapping, at random: the kernel places nothing there by itself, so nobody takes it meanwhile.
    /// </summary>
    public ulong FindFree(ulong length)
    {
        while (true)
        {
            var start = (ulong)Random.Shared.NextInt64((long)Lowest, (long)Highest) & ~0xFFFUL;
            if (!_mappings.Exists(mapping => mapping.Start < start + length + Distance && start < mapping.End + Distance))
                return start;
        }
    }

    private static Mapping Parse(string line)
    {
        var fields = line.Split(' ', 6, StringSplitOptions.RemoveEmptyEntries);
        var range = fields[0].Split('-');
        return new Mapping(Hex(range[0]), Hex(range[1]), fields[1], Hex(fields[2]), fields[3], fields[4], fields.Length > 5 ? fields[5].Trim() : "");
    }

    private static ulong Hex(string text) => ulong.Parse(text, NumberStyles.HexNumber, CultureInfo.InvariantCulture);
}
