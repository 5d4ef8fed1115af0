using System.Runtime.InteropServices;

namespace KvmTsc.Interop;

internal static unsafe partial class LibC
{
    [LibraryImport("libc", EntryPoint = "pread", SetLastError = true)]
    private static partial nint PreadNative(SafeDescriptor descriptor, void* buffer, nuint count, nint offset);

    [LibraryImport("libc", EntryPoint = "pwrite", SetLastError = true)]
    private static partial nint PwriteNative(SafeDescriptor descriptor, void* buffer, nuint count, nint offset);

    /// <returns>Whether all of the buffer was read.</returns>
    public static bool Pread(SafeDescriptor descriptor, Span<byte> buffer, ulong offset)
    {
        fixed (byte* start = buffer)
            return PreadNative(descriptor, start, (nuint)buffer.Length, (nint)offset) == buffer.Length;
    }

    /// <returns>Whether all of the buffer was written.</returns>
    public static bool Pwrite(SafeDescriptor descriptor, ReadOnlySpan<byte> buffer, ulong offset)
    {
        fixed (byte* start = buffer)
            return PwriteNative(descriptor, start, (nuint)buffer.Length, (nint)offset) == buffer.Length;
    }
}
