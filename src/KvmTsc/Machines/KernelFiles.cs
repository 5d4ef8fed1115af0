using System.Globalization;

namespace KvmTsc.Machines;

/// <summary>Small files of procfs, sysfs and debugfs, which may not be there or not be readable.</summary>
internal static class KernelFiles
{
    /// <summary>The first line of a file, null if it cannot be read.</summary>
    public static string? ReadLine(string path)
    {
        try
        {
            return File.ReadAllText(path).Split('\n', 2)[0].Trim('\0', ' ', '\n');
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
