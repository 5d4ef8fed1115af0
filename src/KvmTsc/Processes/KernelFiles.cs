using System.Globalization;
using System.Text;
using KvmTsc.Interop;

namespace KvmTsc.Processes;

/// <summary>
/// Small files of procfs, sysfs and debugfs, which may not be there or not be readable. Like <see cref="NumberedDirectory"/> this does without System.IO: a list of
/// VMs takes ten of them for each, and an exception for each that is not there took longer than all else. They are of those that the kernel gives whole, so that
/// a reading that leaves room is the last.
/// </summary>
internal static class KernelFiles
{
    private const int UsualLength = 4096;

    /// <summary>The first line of a file, null if it cannot be read.</summary>
    public static string? ReadLine(string path)
    {
        Span<byte> buffer = stackalloc byte[UsualLength];
        if (ReadBeginning(path, buffer) is not { } length)
            return null;
        var line = buffer[..length];
        var end = line.IndexOf((byte)'\n');
        return Encoding.UTF8.GetString(end < 0 ? line : line[..end]).Trim('\0', ' ');
    }

    /// <summary>A file as a whole, null if it cannot be read.</summary>
    public static string? ReadText(string path)
    {
        var number = LibC.Open(path, LibC.O_CLOEXEC);
        if (number < 0)
            return null;
        using var descriptor = new SafeDescriptor(number);
        Span<byte> usual = stackalloc byte[UsualLength];
        var length = (int)LibC.Read(number, usual);
        if (length < usual.Length)
            return length < 0 ? null : Encoding.UTF8.GetString(usual[..length]);

        var (text, filled) = (usual.ToArray(), length);
        while (filled == text.Length)
        {
            Array.Resize(ref text, text.Length * 2);
            length = (int)LibC.Read(number, text.AsSpan(filled));
            if (length < 0)
                return null;
            filled += length;
        }

        return Encoding.UTF8.GetString(text, 0, filled);
    }

    /// <summary>What a symbolic link says, null if it cannot be read.</summary>
    public static string? ReadLinkTarget(string path)
    {
        Span<byte> buffer = stackalloc byte[UsualLength]; // PATH_MAX
        var length = (int)LibC.Readlink(path, buffer);
        return length < 0 ? null : Encoding.UTF8.GetString(buffer[..length]);
    }

    /// <summary>The beginning of a file, as much of it as the buffer takes; null if it cannot be read.</summary>
    public static int? ReadBeginning(string path, Span<byte> buffer)
    {
        var number = LibC.Open(path, LibC.O_CLOEXEC);
        if (number < 0)
            return null;
        using var descriptor = new SafeDescriptor(number);
        return LibC.Read(number, buffer) is >= 0 and var length ? (int)length : null;
    }

    /// <summary>The number in a file, null if there is none.</summary>
    public static ulong? ReadNumber(string path) =>
        ulong.TryParse(ReadLine(path), NumberStyles.None, CultureInfo.InvariantCulture, out var number) ? number : null;
}
