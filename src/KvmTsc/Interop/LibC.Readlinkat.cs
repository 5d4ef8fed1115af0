using System.Runtime.InteropServices;

namespace KvmTsc.Interop;

internal static unsafe partial class LibC
{
    [LibraryImport("libc", EntryPoint = "readlinkat")]
    private static partial nint ReadlinkatNative(SafeDescriptor directory, byte* path, byte* buffer, nint size);

    /// <summary>Reads a symbolic link of a directory.</summary>
    /// <param name="directory">The directory.</param>
    /// <param name="name">The link's name, which ends with a zero.</param>
    /// <param name="buffer">Takes as much of the link as it can.</param>
    /// <returns>How many bytes of it, or -1.</returns>
    public static nint Readlinkat(SafeDescriptor directory, ReadOnlySpan<byte> name, Span<byte> buffer)
    {
        fixed (byte* path = name)
        fixed (byte* start = buffer)
            return ReadlinkatNative(directory, path, start, buffer.Length);
    }
}
