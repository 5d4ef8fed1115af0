using System.Globalization;

namespace KvmTsc.Processes;

/// <summary>Small files of procfs, sysfs and debugfs, which may not be there or not be readable.</summary>
internal static class KernelFiles
{
    /// <summary>The first line of a file, null if it cannot be read.</summary>
    public static string? ReadLine(string path) => ReadText(path)?.Split('\n', 2)[0].Trim('\0', ' ', '\n');

    /// <summary>A file as a whole, null if it cannot be read.</summary>
    public static string? ReadText(string path)
    {
        try
        {
            return File.ReadAllText(path);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    /// <summary>What a symbolic link says, null if it cannot be read.</summary>
    public static string? ReadLinkTarget(string path)
    {
        try
        {
            return new FileInfo(path).LinkTarget;
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    /// <summary>The number in a file, null if there is none.</summary>
    public static ulong? ReadNumber(string path) =>
        ulong.TryParse(ReadLine(path), NumberStyles.None, CultureInfo.InvariantCulture, out var number) ? number : null;
}
