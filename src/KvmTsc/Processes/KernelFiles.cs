using System.Globalization;
using System.Runtime.CompilerServices;
using System.Text;
using KvmTsc.Interop;

namespace KvmTsc.Processes;

/// <summary>
/// Small files of procfs, sysfs and debugfs, which may not be there or not be readable. Like <see cref="NumberedDirectory"/> this does without System.IO: a list of
/// VMs takes ten of them for each, and an exception for each that is not there took longer than all else. They are of those that the kernel gives whole, so that
/// a reading that leaves room is the last.
/// </summary>
[SkipLocalsInit]
internal static class KernelFiles
{
    /// <summary>Room for most files of the kernel, and for each link.</summary>
    public const int UsualLength = 4096; // PATH_MAX

    /// <summary>The first line of a file, null if it cannot be read.</summary>
    public static string? ReadLine(string path)
    {
        Span<byte> buffer = stackalloc byte[UsualLength];
        if (!TryReadBeginning(path, buffer, out var line))
            return null;
        var end = line.IndexOf((byte)'\n');
        return Encoding.UTF8.GetString(end < 0 ? line : line[..end]).Trim('\0', ' ');
    }

    /// <summary>A file as a whole, null if it cannot be read.</summary>
    public static string? ReadText(string path)
    {
        Span<byte> buffer = stackalloc byte[UsualLength];
        return TryRead(path, buffer, out var text) ? Encoding.UTF8.GetString(text) : null;
    }

    /// <summary>A file as a whole, in a buffer if that has room for it; false if it cannot be read.</summary>
    public static bool TryRead(string path, Span<byte> buffer, out ReadOnlySpan<byte> text) => TryRead(path, buffer, isWhole: true, out text);

    /// <summary>The beginning of a file, as much of it as a buffer takes; false if it cannot be read.</summary>
    public static bool TryReadBeginning(string path, Span<byte> buffer, out ReadOnlySpan<byte> beginning) => TryRead(path, buffer, isWhole: false, out beginning);

    /// <summary>What a symbolic link says, null if it cannot be read.</summary>
    public static string? ReadLinkTarget(string path)
    {
        Span<byte> buffer = stackalloc byte[UsualLength];
        var length = (int)LibC.Readlink(path, buffer);
        return length < 0 ? null : Encoding.UTF8.GetString(buffer[..length]);
    }

    /// <summary>The number in a file, null if there is none.</summary>
    public static ulong? ReadNumber(string path) =>
        ulong.TryParse(ReadLine(path), NumberStyles.None, CultureInfo.InvariantCulture, out var number) ? number : null;

    private static bool TryRead(string path, Span<byte> buffer, bool isWhole, out ReadOnlySpan<byte> text)
    {
        text = default;
        var descriptor = LibC.Open(path, LibC.O_CLOEXEC);
        if (descriptor < 0)
            return false;
        try
        {
            var filled = 0;
            int length;
            while ((length = (int)LibC.Read(descriptor, buffer[filled..])) >= 0)
            {
                filled += length;
                if (filled < buffer.Length || !isWhole)
                {
                    text = buffer[..filled];
                    return true;
                }

                var more = new byte[buffer.Length * 2];
                buffer.CopyTo(more);
                buffer = more;
            }

            return false;
        }
        finally
        {
            _ = LibC.Close(descriptor);
        }
    }
}
