using System.Runtime.CompilerServices;

namespace KvmTsc.Interop;

/// <summary>Computes ioctl request numbers as include/uapi/asm-generic/ioctl.h does.</summary>
internal static class Ioctl
{
    private const uint None = 0;
    private const uint Write = 1;
    private const uint Read = 2;

    /// <summary><c>_IO(type, number)</c>: no argument, or a plain integer.</summary>
    public static nuint Io(byte type, byte number) => Number(None, type, number, 0);

    /// <summary><c>_IOW(type, number, T)</c>: the kernel reads a <typeparamref name="T"/>.</summary>
    public static nuint Iow<T>(byte type, byte number) where T : unmanaged => Number(Write, type, number, Unsafe.SizeOf<T>());

    /// <summary><c>_IOR(type, number, T)</c>: the kernel writes a <typeparamref name="T"/>.</summary>
    public static nuint Ior<T>(byte type, byte number) where T : unmanaged => Number(Read, type, number, Unsafe.SizeOf<T>());

    /// <summary><c>_IOWR(type, number, T)</c>: the kernel reads and writes a <typeparamref name="T"/>.</summary>
    public static nuint Iowr<T>(byte type, byte number) where T : unmanaged => Number(Write | Read, type, number, Unsafe.SizeOf<T>());

    private static nuint Number(uint direction, byte type, byte number, int size) =>
        (direction << 30) | ((uint)size << 16) | ((uint)type << 8) | number;
}
