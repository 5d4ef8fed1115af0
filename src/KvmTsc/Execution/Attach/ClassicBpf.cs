using System.Buffers.Binary;
using System.Runtime.InteropServices;

namespace KvmTsc.Execution.Attach;

/// <summary>Runs a program of classic BPF as seccomp has it: linux/bpf_common.h, seccomp_check_filter in kernel/seccomp.c.</summary>
internal static class ClassicBpf
{
    /// <summary>An instruction, struct sock_filter in linux/filter.h.</summary>
    [StructLayout(LayoutKind.Sequential)]
    public record struct Instruction(ushort Code, byte IfTrue, byte IfFalse, uint Constant);

    private const int Load = 0, LoadX = 1, Store = 2, StoreX = 3, Alu = 4, Jump = 5, Return = 6, Misc = 7;
    private const int Immediate = 0x00, Absolute = 0x20, Memory = 0x60, Length = 0x80;
    private const int WithX = 0x08, ReturnsA = 0x10, TransferToA = 0x80;
    private const int MemoryWords = 16;

    /// <summary>Runs it.</summary>
    /// <param name="program">The program.</param>
    /// <param name="data">What it looks at, in words of this machine's order.</param>
    /// <returns>What it returns; null where it does what no program does that the kernel has taken.</returns>
    public static uint? Run(ReadOnlySpan<Instruction> program, ReadOnlySpan<byte> data)
    {
        Span<uint> memory = stackalloc uint[MemoryWords];
        memory.Clear();
        var (a, x) = (0u, 0u);
        for (var i = 0; i < program.Length; i++)
        {
            var (code, ifTrue, ifFalse, k) = program[i];
            var operand = (code & WithX) != 0 ? x : k;
            switch (code & 7)
            {
                case Load or LoadX when Read(code, k, data, memory) is { } value:
                    if ((code & 7) == Load)
                        a = value;
                    else
                        x = value;
                    break;
                case Store or StoreX when k < MemoryWords:
                    memory[(int)k] = (code & 7) == Store ? a : x;
                    break;
                case Alu when Compute(code & 0xF0, a, operand) is { } result:
                    a = result;
                    break;
                case Jump when (code & 0xF0) == 0:
                    i = (int)Math.Min(int.MaxValue - 1, i + (long)k);
                    break;
                case Jump when Compare(code & 0xF0, a, operand) is { } holds:
                    i += holds ? ifTrue : ifFalse;
                    break;
                case Return:
                    return (code & ReturnsA) != 0 ? a : k;
                case Misc when code == (Misc | TransferToA):
                    a = x;
                    break;
                case Misc when code == Misc:
                    x = a;
                    break;
                default:
                    return null;
            }
        }

        return null;
    }

    private static uint? Read(int code, uint k, ReadOnlySpan<byte> data, ReadOnlySpan<uint> memory) => (code & 0xE0) switch
    {
        Immediate => k,
        Absolute when k + (long)sizeof(uint) <= data.Length => BitConverter.IsLittleEndian
            ? BinaryPrimitives.ReadUInt32LittleEndian(data[(int)k..])
            : BinaryPrimitives.ReadUInt32BigEndian(data[(int)k..]),
        Memory when k < MemoryWords => memory[(int)k],
        Length => (uint)data.Length,
        _ => null,
    };

    private static uint? Compute(int operation, uint a, uint operand) => operation switch
    {
        0x00 => a + operand,
        0x10 => a - operand,
        0x20 => a * operand,
        0x30 => operand == 0 ? 0 : a / operand,
        0x40 => a | operand,
        0x50 => a & operand,
        0x60 => operand > 31 ? 0 : a << (int)operand,
        0x70 => operand > 31 ? 0 : a >> (int)operand,
        0x80 => 0u - a,
        0xA0 => a ^ operand,
        _ => null,
    };

    private static bool? Compare(int operation, uint a, uint operand) => operation switch
    {
        0x10 => a == operand,
        0x20 => a > operand,
        0x30 => a >= operand,
        0x40 => (a & operand) != 0,
        _ => null,
    };
}
