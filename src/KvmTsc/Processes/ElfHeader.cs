using System.Buffers.Binary;

namespace KvmTsc.Processes;

/// <summary>The beginning of a program file.</summary>
internal static class ElfHeader
{
    private const int ClassOffset = 4;
    private const byte Class64 = 2;
    private const int MachineOffset = 18;
    private const ushort MachineX64 = 62;
    private const int Length = 20;

    /// <summary>Whether a file is an x86-64 program; null if it cannot be read.</summary>
    public static bool? IsX64(string path)
    {
        Span<byte> header = stackalloc byte[Length];
        return KernelFiles.TryReadBeginning(path, header, out var beginning) ? beginning.Length == Length && IsX64(beginning) : null;
    }

    /// <summary>Whether this begins an x86-64 program. The x32 ABI has the same machine, and addresses of 32 bits.</summary>
    public static bool IsX64(ReadOnlySpan<byte> header) =>
        header.StartsWith("\u007FELF"u8)
        && header[ClassOffset] == Class64
        && BinaryPrimitives.ReadUInt16LittleEndian(header[MachineOffset..]) == MachineX64;
}
