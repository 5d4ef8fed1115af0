using System.Runtime.InteropServices;

namespace KvmTsc.Interop;

internal static unsafe partial class LibC
{
    [SuppressGCTransition] // as of ptrace
    [LibraryImport("libc", EntryPoint = "pread")]
    private static partial nint PreadNative(SafeDescriptor descriptor, void* buffer, nuint count, nint offset);

    [SuppressGCTransition]
    [LibraryImport("libc", EntryPoint = "pwrite")]
    private static partial nint PwriteNative(SafeDescriptor descriptor, void* buffer, nuint count, nint offset);

    /// <returns>Whether all of the buffer was read.</returns>
    public static bool Pread(SafeDescriptor descriptor, Span<byte> buffer, ulong offset)
    {
        const int MostAtOnce = 1 << 18; // the garbage collector waits for a call

        for (var at = 0; at < buffer.Length; at += MostAtOnce)
        {
            var part = buffer.Slice(at, Math.Min(MostAtOnce, buffer.Length - at));
            fixed (byte* start = part)
            {
                if (PreadNative(descriptor, start, (nuint)part.Length, (nint)offset + at) != part.Length)
                    return false;
            }
        }

        return true;
    }

    /// <summary>Writes a few pages, all of one at once.</summary>
    /// <returns>0 if all of the buffer was written, or the negated errno.</returns>
    public static int Pwrite(SafeDescriptor descriptor, ReadOnlySpan<byte> buffer, ulong offset)
    {
        fixed (byte* start = buffer)
        {
            var written = PwriteNative(descriptor, start, (nuint)buffer.Length, (nint)offset);
            return written < 0 ? -Marshal.GetLastSystemError() : written == buffer.Length ? 0 : -Errno.EIO;
        }
    }
}
