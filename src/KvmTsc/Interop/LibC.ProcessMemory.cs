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

    [SuppressGCTransition]
    [LibraryImport("libc", EntryPoint = "process_vm_writev")]
    private static partial nint ProcessVmWritevNative(int process, IoVector* local, nuint localCount, IoVector* remote, nuint remoteCount, nuint flags);

    /// <summary>
    /// Writes where the process itself may write, and nowhere else: unlike /proc/PID/mem this forces nothing, so that it tells by its failure that there is
    /// no room, or a guard.
    /// </summary>
    /// <returns>Whether all was written.</returns>
    public static bool TryWriteMemory(int process, ReadOnlySpan<byte> bytes, ulong address)
    {
        fixed (byte* start = bytes)
        {
            IoVector local = new() { Base = (nint)start, Length = (nuint)bytes.Length }, remote = new() { Base = (nint)address, Length = (nuint)bytes.Length };
            return ProcessVmWritevNative(process, &local, 1, &remote, 1, 0) == bytes.Length;
        }
    }

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

    /// <summary><c>struct iovec</c>.</summary>
    [StructLayout(LayoutKind.Sequential)]
    internal struct IoVector
    {
        public nint Base;
        public nuint Length;
    }
}
