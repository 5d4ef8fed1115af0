using System.Runtime.InteropServices;

namespace KvmTsc.Interop;

/// <summary><c>struct timex</c>, x86-64; modes 0 reads.</summary>
[StructLayout(LayoutKind.Explicit, Size = 208)]
internal struct Timex
{
    /// <summary><c>STA_UNSYNC</c>.</summary>
    public const int Unsynchronized = 0x40;

    /// <summary><c>STA_NANO</c>: the offset is in nanoseconds, not in microseconds.</summary>
    public const int IsInNanoseconds = 0x2000;

    [FieldOffset(0)] public uint Modes;
    [FieldOffset(8)] public long Offset;
    [FieldOffset(16)] public long Frequency;
    [FieldOffset(24)] public long MaxError;
    [FieldOffset(32)] public long EstimatedError;
    [FieldOffset(40)] public int Status;
    [FieldOffset(88)] public long Tick;
    [FieldOffset(160)] public int Tai;
}
