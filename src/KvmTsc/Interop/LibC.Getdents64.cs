using System.Runtime.InteropServices;

namespace KvmTsc.Interop;

internal static unsafe partial class LibC
{
    // musl has no getdents64(3).
    private const long SYS_getdents64 = 217;

    [LibraryImport("libc", EntryPoint = "syscall", SetLastError = true)]
    private static partial nint Getdents64Native(nint number, SafeDescriptor directory, byte* buffer, nint size);

    [LibraryImport("libc", EntryPoint = "lseek")]
    private static partial nint LseekNative(SafeDescriptor descriptor, nint offset, int whence);

    /// <summary>Has a directory be read from its beginning again.</summary>
    public static void Rewind(SafeDescriptor directory) => _ = LseekNative(directory, 0, 0);

    /// <summary>Reads some <c>struct linux_dirent64</c> of a directory.</summary>
    /// <returns>How many bytes, 0 at the end, or -1.</returns>
    public static nint Getdents64(SafeDescriptor directory, Span<byte> buffer)
    {
        fixed (byte* start = buffer)
            return Getdents64Native((nint)SYS_getdents64, directory, start, buffer.Length);
    }
}
