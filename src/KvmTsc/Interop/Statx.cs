using System.Runtime.InteropServices;

namespace KvmTsc.Interop;

/// <summary><c>struct statx</c>.</summary>
[StructLayout(LayoutKind.Explicit, Size = 256)]
internal struct Statx
{
    /// <summary><c>STATX_BASIC_STATS</c>.</summary>
    public const uint BasicStats = 0x7FF;

    /// <summary><c>S_IFMT</c>.</summary>
    public const ushort TypeMask = 0xF000;

    /// <summary><c>S_IFREG</c>.</summary>
    public const ushort RegularFile = 0x8000;

    [FieldOffset(28)] public ushort Mode;
    [FieldOffset(40)] public ulong Size;

    public readonly bool IsRegularFile => (Mode & TypeMask) == RegularFile;
}
