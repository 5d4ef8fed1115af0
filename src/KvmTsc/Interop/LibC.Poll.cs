using System.Runtime.InteropServices;

namespace KvmTsc.Interop;

internal static unsafe partial class LibC
{
    public const int SYS_pidfd_open = 434;
    public const int POLLIN = 1;
    public const int EFD_CLOEXEC = 0x80000;

    [LibraryImport("libc", EntryPoint = "poll", SetLastError = true)]
    private static partial int PollNative(PollDescriptor* descriptors, nuint count, int timeout);

    [LibraryImport("libc", EntryPoint = "eventfd", SetLastError = true)]
    private static partial int EventfdNative(uint value, int flags);

    [LibraryImport("libc", EntryPoint = "write", SetLastError = true)]
    private static partial nint WriteNative(int descriptor, byte* buffer, nuint count);

    /// <summary>Waits until one of some descriptors can be read, or is at its end.</summary>
    /// <param name="descriptors">The descriptors.</param>
    /// <param name="timeout">For how long, in milliseconds; -1 for as long as it takes.</param>
    /// <returns>Those that can, or are.</returns>
    public static IReadOnlySet<int> Poll(ReadOnlySpan<int> descriptors, int timeout)
    {
        var polled = new PollDescriptor[descriptors.Length];
        for (var i = 0; i < polled.Length; i++)
            polled[i] = new PollDescriptor { Descriptor = descriptors[i], Events = POLLIN };
        fixed (PollDescriptor* first = polled)
            _ = PollNative(first, (nuint)polled.Length, timeout);
        return polled.Where(descriptor => descriptor.Returned != 0).Select(descriptor => descriptor.Descriptor).ToHashSet();
    }

    /// <summary>A descriptor that becomes readable when it is told to.</summary>
    public static SafeDescriptor Eventfd()
    {
        var descriptor = EventfdNative(0, EFD_CLOEXEC);
        return descriptor >= 0 ? new SafeDescriptor(descriptor) : throw KvmException.FromErrno("eventfd", Marshal.GetLastPInvokeError());
    }

    /// <summary>Makes it readable.</summary>
    public static void Signal(SafeDescriptor eventfd)
    {
        ulong one = 1;
        _ = WriteNative(eventfd.Number, (byte*)&one, sizeof(ulong));
    }

    /// <summary>Makes it readable no more; waits until it was.</summary>
    public static void TakeSignal(SafeDescriptor eventfd)
    {
        ulong count;
        _ = ReadNative(eventfd.Number, (byte*)&count, sizeof(ulong));
    }

    /// <summary>A descriptor that becomes readable when a process ends; null if there is no such process.</summary>
    public static SafeDescriptor? PidfdOpen(int processId)
    {
        var descriptor = (int)SystemCallNative(SYS_pidfd_open, processId, 0, 0, 0);
        return descriptor >= 0 ? new SafeDescriptor(descriptor) : null;
    }

    /// <summary>Reads what there is.</summary>
    /// <returns>The number of bytes, 0 at the end, or the negated errno.</returns>
    public static int Read(SafeDescriptor descriptor, Span<byte> buffer)
    {
        fixed (byte* start = buffer)
        {
            var read = ReadNative(descriptor.Number, start, (nuint)buffer.Length);
            return read < 0 ? -Marshal.GetLastPInvokeError() : (int)read;
        }
    }

    /// <summary><c>struct pollfd</c>.</summary>
    [StructLayout(LayoutKind.Sequential)]
    internal struct PollDescriptor
    {
        public int Descriptor;
        public short Events;
        public short Returned;
    }
}
