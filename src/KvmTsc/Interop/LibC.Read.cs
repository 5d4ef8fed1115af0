using System.Runtime.InteropServices;

namespace KvmTsc.Interop;

internal static unsafe partial class LibC
{
    [LibraryImport("libc", EntryPoint = "read", SetLastError = true)]
    private static partial nint ReadNative(int descriptor, byte* buffer, nuint count);

    [LibraryImport("libc", EntryPoint = "readlink", StringMarshalling = StringMarshalling.Utf8)]
    private static partial nint ReadlinkNative(string path, byte* buffer, nuint size);

    [LibraryImport("libc", EntryPoint = "access", StringMarshalling = StringMarshalling.Utf8)]
    private static partial int AccessNative(string path, int mode);

    /// <summary>Whether there is something by this path, as far as we may see.</summary>
    public static bool Exists(string path) => AccessNative(path, 0) == 0;

    /// <returns>How many bytes were read, 0 at the end, or -1.</returns>
    public static nint Read(int descriptor, Span<byte> buffer)
    {
        fixed (byte* start = buffer)
            return ReadNative(descriptor, start, (nuint)buffer.Length);
    }

    /// <returns>How many bytes of the link the buffer took, or -1.</returns>
    public static nint Readlink(string path, Span<byte> buffer)
    {
        fixed (byte* start = buffer)
            return ReadlinkNative(path, start, (nuint)buffer.Length);
    }
}
