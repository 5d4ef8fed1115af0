using System.Runtime.InteropServices;
using KvmTsc.Execution.Attach;

namespace KvmTsc.Tests.Attach;

public sealed class SeccompFilterTests
{
    private const ushort LoadWord = 0x20, LoadLength = 0x80, LoadImmediate = 0x00, LoadMemory = 0x60, LoadXImmediate = 0x01, LoadXMemory = 0x61;
    private const ushort Store = 0x02, StoreX = 0x03, ToX = 0x07, ToA = 0x87;
    private const ushort Jump = 0x05, IfEqual = 0x15, IfGreater = 0x25, IfNotLess = 0x35, IfSet = 0x45, IfEqualX = 0x1D;
    private const ushort Add = 0x04, Subtract = 0x14, Multiply = 0x24, Divide = 0x34, Or = 0x44, And = 0x54, Left = 0x64, Right = 0x74, Negate = 0x84, Exclusive = 0xA4;
    private const ushort AddX = 0x0C, DivideX = 0x3C, Return = 0x06, ReturnA = 0x16;
    private const uint Allow = 0x7FFF0000, Log = 0x7FFC0000, Error = 0x00050001, Trap = 0x00030000, KillThread = 0, KillProcess = 0x80000000;
    private const int Number = 0, Architecture = 4, Pointer = 8, Arg1Low = 24, Arg1High = 28;

    private static readonly SignalFrames.Call s_ioctl = new(16, 5, 0x1_0000_AE7C);

    [Theory]
    [InlineData(Allow, true)]
    [InlineData(Allow | 7, true)]
    [InlineData(Log, true)]
    [InlineData(Error, false)]
    [InlineData(Trap, false)]
    [InlineData(KillThread, false)]
    [InlineData(KillProcess, false)]
    public void A_call_passes_that_is_allowed_or_logged(uint action, bool allowed) =>
        Assert.Equal(allowed, Filter([I(Return, action)]).Allows(s_ioctl, 0));

    [Fact]
    public void All_filters_are_asked()
    {
        Assert.True(Filter().Allows(s_ioctl, 0));
        Assert.True(Filter([I(Return, Allow)], [I(Return, Log)]).Allows(s_ioctl, 0));
        Assert.False(Filter([I(Return, Allow)], [I(Return, KillThread)], [I(Return, Allow)]).Allows(s_ioctl, 0));
    }

    [Theory]
    [InlineData(Number, 16u)]
    [InlineData(Architecture, 0xC000003Eu)]
    [InlineData(Pointer, 0x7000u)]
    [InlineData(Pointer + 4, 0x55u)]
    [InlineData(Arg1Low, 0xAE7Cu)]
    [InlineData(Arg1High, 1u)]
    [InlineData(60, 0u)]
    public void It_looks_at_the_call(int offset, uint expected)
    {
        ulong[] program = [I(LoadWord, (uint)offset), I(IfEqual, expected, 0, 1), I(Return, Allow), I(Return, KillProcess)];
        Assert.True(Filter(program).Allows(s_ioctl, 0x55_0000_7000));
    }

    public static TheoryData<uint?, ulong[]> Programs => new()
    {
        { 64, [I(LoadLength, 0), I(ReturnA, 0)] },
        { 7, [I(LoadImmediate, 7), I(ToX, 0), I(LoadImmediate, 0), I(ToA, 0), I(ReturnA, 0)] },
        { 9, [I(LoadImmediate, 9), I(Store, 15), I(LoadImmediate, 0), I(LoadMemory, 15), I(ReturnA, 0)] },
        { 8, [I(LoadXImmediate, 8), I(StoreX, 0), I(LoadXImmediate, 0), I(LoadXMemory, 0), I(ToA, 0), I(ReturnA, 0)] },
        { 5, [I(LoadXImmediate, 2), I(LoadImmediate, 3), I(AddX, 0), I(ReturnA, 0)] },
        { 0, [I(LoadImmediate, 3), I(DivideX, 0), I(ReturnA, 0)] },
        { 0xFFFFFFFE, [I(LoadImmediate, 1), I(Subtract, 3), I(ReturnA, 0)] },
        { 6, [I(LoadImmediate, 3), I(Multiply, 2), I(ReturnA, 0)] },
        { 3, [I(LoadImmediate, 7), I(Divide, 2), I(ReturnA, 0)] },
        { 0xF0, [I(LoadImmediate, 0xFF), I(And, 0xF0), I(ReturnA, 0)] },
        { 0xFF, [I(LoadImmediate, 0x0F), I(Or, 0xF0), I(ReturnA, 0)] },
        { 0xF0, [I(LoadImmediate, 0x0F), I(Exclusive, 0xFF), I(ReturnA, 0)] },
        { 0x10, [I(LoadImmediate, 1), I(Left, 4), I(ReturnA, 0)] },
        { 1, [I(LoadImmediate, 16), I(Right, 4), I(ReturnA, 0)] },
        { 0xFFFFFFFF, [I(LoadImmediate, 1), I(Negate, 0), I(ReturnA, 0)] },
        { 4, [I(LoadImmediate, 3), I(Add, 1), I(ReturnA, 0)] },
        { 2, [I(Jump, 1), I(Return, 1), I(Return, 2)] },
        { 1, [I(LoadImmediate, 0x80000000), I(IfGreater, 1, 0, 1), I(Return, 1), I(Return, 2)] }, // as unsigned numbers
        { 2, [I(LoadImmediate, 1), I(IfGreater, 1, 0, 1), I(Return, 1), I(Return, 2)] },
        { 1, [I(LoadImmediate, 1), I(IfNotLess, 1, 0, 1), I(Return, 1), I(Return, 2)] },
        { 2, [I(LoadImmediate, 6), I(IfSet, 1, 0, 1), I(Return, 1), I(Return, 2)] },
        { 1, [I(LoadImmediate, 6), I(ToX, 0), I(IfEqualX, 0, 0, 1), I(Return, 1), I(Return, 2)] },
        { null, [I(LoadWord, 64), I(Return, 1)] }, // beyond its end
        { null, [I(Store, 16), I(Return, 1)] },
        { null, [I(0xFFFF, 0), I(Return, 1)] },
        { null, [I(Jump, uint.MaxValue), I(Return, 1)] },
        { null, [] },
    };

    [Theory]
    [MemberData(nameof(Programs))]
    public void A_program_does_what_the_kernel_would_have_it_do(uint? expected, ulong[] program) =>
        Assert.Equal(expected, ClassicBpf.Run(Program(program), new byte[64]));

    [Fact]
    public void Two_threads_of_one_filter_are_judged_once()
    {
        ulong[] program = [I(Return, Allow)];
        Assert.Equal(Filter(program), Filter(program));
        Assert.NotEqual(Filter(program), Filter(program, program));
        Assert.NotEqual(Filter(program), Filter([I(Return, Log)]));
    }

    private static SeccompFilter Filter(params ulong[][] programs) => new([.. programs.Select(Program)]);

    private static ClassicBpf.Instruction[] Program(ulong[] program) => MemoryMarshal.Cast<ulong, ClassicBpf.Instruction>(program).ToArray();

    /// <summary>An instruction as it lies in memory.</summary>
    private static ulong I(ushort code, uint k, byte ifTrue = 0, byte ifFalse = 0) => code | ((ulong)ifTrue << 16) | ((ulong)ifFalse << 24) | ((ulong)k << 32);
}
