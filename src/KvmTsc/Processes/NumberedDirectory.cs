using System.Buffers.Text;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text;
using KvmTsc.Interop;

namespace KvmTsc.Processes;

/// <summary>
/// A directory of procfs whose entries are numbers: processes, threads, descriptors. Thousands of them are read for one list of VMs, most
/// of which end meanwhile or may not be looked at, so this does without the exceptions and the strings of System.IO.
/// </summary>
internal sealed class NumberedDirectory : IDisposable
{
    // struct linux_dirent64
    private const int LengthOffset = 16;
    private const int NameOffset = 19;

    private readonly SafeDescriptor _descriptor;
    private bool _wasRead;

    private NumberedDirectory(SafeDescriptor descriptor) => _descriptor = descriptor;

    /// <summary>Opens one, null if it is not there or not ours to read.</summary>
    public static NumberedDirectory? Open(string path)
    {
        var descriptor = LibC.Open(path, LibC.O_DIRECTORY | LibC.O_CLOEXEC);
        return descriptor < 0 ? null : new NumberedDirectory(new SafeDescriptor(descriptor));
    }

    /// <summary>The numbers in a directory, none if it cannot be read.</summary>
    /// <param name="path">The directory.</param>
    /// <param name="prefix">What stands before each of them.</param>
    public static List<int> Read(string path, string prefix = "")
    {
        using var directory = Open(path);
        return directory?.ReadNumbers(prefix) ?? [];
    }

    /// <inheritdoc/>
    public void Dispose() => _descriptor.Dispose();

    /// <summary>Its entries as they are now, in its order.</summary>
    [SkipLocalsInit]
    public List<int> ReadNumbers(string prefix = "")
    {
        if (_wasRead)
            LibC.Rewind(_descriptor);
        _wasRead = true;
        var numbers = new List<int>();
        Span<byte> before = stackalloc byte[prefix.Length];
        Encoding.ASCII.GetBytes(prefix, before);
        Span<byte> buffer = stackalloc byte[8192];
        nint length;
        while ((length = LibC.Getdents64(_descriptor, buffer)) > 0)
            AddNumbers(buffer[..(int)length], before, numbers);
        return numbers;
    }

    /// <summary>What an entry links to, or as much of it as the buffer takes; nothing if the entry is gone.</summary>
    public ReadOnlySpan<byte> ReadLink(int number, Span<byte> buffer)
    {
        Span<byte> name = stackalloc byte[12];
        Utf8Formatter.TryFormat(number, name, out var length);
        name[length] = 0;
        var read = LibC.Readlinkat(_descriptor, name, buffer);
        return buffer[..Math.Max(0, (int)read)];
    }

    private static void AddNumbers(ReadOnlySpan<byte> entries, ReadOnlySpan<byte> prefix, List<int> numbers)
    {
        for (; entries.Length > 0; entries = entries[MemoryMarshal.Read<ushort>(entries[LengthOffset..])..])
        {
            var name = entries[NameOffset..];
            if (name.StartsWith(prefix) && name[prefix.Length..] is var digits && Utf8Parser.TryParse(digits, out int number, out var length)
                && digits[length] == 0 && number >= 0)
                numbers.Add(number);
        }
    }
}
