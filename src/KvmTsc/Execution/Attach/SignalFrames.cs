using System.Buffers.Binary;
using System.Runtime.Intrinsics.X86;
using KvmTsc.Interop;

namespace KvmTsc.Execution.Attach;

/// <summary>
/// Signal frames on the unused stack of a stopped thread, each of which leads to a system call and then to the next frame, the last one to
/// where the thread was, with all that it had: registers, FPU, signal mask. The thread comes home by itself, whatever becomes of the tracer.
/// </summary>
internal sealed class SignalFrames
{
    private const int RedZone = 128;
    private const int FrameSize = 312;
    private const int ContextOffset = 8;
    private const int RegistersOffset = ContextOffset + 40;
    private const int MaskOffset = ContextOffset + 296;
    private const int XstateHeaderOffset = 512;
    private const int XstateSoftwareOffset = 464;
    private const uint Magic1 = 0x46505853;
    private const uint Magic2 = 0x46505845;

    // Tile registers: large, and not part of the state unless the process asked for them.
    private const ulong Tiles = 3UL << 17;

    // Where each feature's part of the FPU's state ends. CPUID is dear where the host is a VM itself.
    private static readonly int[] s_ends = [.. Enumerable.Range(0, 63).Select(EndOf)];

    private readonly Instructions _instructions;
    private readonly UserRegs _home;
    private readonly byte[] _bytes;
    private readonly int _calls;
    private readonly int _fpuOffset;

    /// <summary>A system call.</summary>
    public sealed record Call(int Number, ulong Arg0, ulong Arg1 = 0, ulong Arg2 = 0, ulong Arg3 = 0, ulong Arg4 = 0, ulong Arg5 = 0);

    /// <param name="instructions">Code of the process to go through.</param>
    /// <param name="home">The registers to come home to.</param>
    /// <param name="homeMask">The signal mask to come home to.</param>
    /// <param name="flightMask">The signal mask meanwhile.</param>
    /// <param name="xstate">The FPU's state as PTRACE_GETREGSET gives it.</param>
    /// <param name="calls">The system calls after the first one, whose registers are set directly.</param>
    public SignalFrames(Instructions instructions, UserRegs home, ulong homeMask, ulong flightMask, ReadOnlySpan<byte> xstate, ReadOnlySpan<Call> calls)
    {
        _instructions = instructions;
        _home = home;
        _calls = calls.Length;
        var fpu = Fpu(xstate);
        var frames = (calls.Length + 1) * FrameSize;
        _fpuOffset = (frames + 63) & ~63;
        _bytes = new byte[_fpuOffset + fpu.Length];
        Address = (home.Rsp - RedZone - (ulong)_bytes.Length) & ~63UL;
        fpu.CopyTo(_bytes.AsSpan(_fpuOffset));
        for (var i = 0; i < calls.Length; i++)
            WriteFrame(i, For(calls[i], FrameAddress(i + 1)), flightMask);
        WriteFrame(calls.Length, home, homeMask);
    }

    /// <summary>Where the frames go.</summary>
    public ulong Address { get; }

    /// <summary>What goes there.</summary>
    public ReadOnlySpan<byte> Bytes => _bytes;

    /// <summary>Where the stack pointer is to be for rt_sigreturn(2) to take the last frame.</summary>
    public ulong Last => FrameAddress(_calls) + ContextOffset;

    /// <summary>The registers that start with a call and go on with the frames.</summary>
    public UserRegs StartWith(Call call) => For(call, FrameAddress(0));

    /// <summary>The registers that make one last call and come home.</summary>
    public UserRegs EndWith(Call call) => For(call, FrameAddress(_calls));

    private ulong FrameAddress(int index) => Address + (ulong)(index * FrameSize);

    private UserRegs For(Call call, ulong stack)
    {
        var regs = _home;
        (regs.Rax, regs.OrigRax, regs.Rip, regs.Rsp, regs.Eflags) = ((ulong)call.Number, ulong.MaxValue, _instructions.SyscallReturn, stack, 0x202);
        (regs.Rdi, regs.Rsi, regs.Rdx, regs.R10, regs.R8, regs.R9) = (call.Arg0, call.Arg1, call.Arg2, call.Arg3, call.Arg4, call.Arg5);
        return regs;
    }

    /// <summary>
    /// <c>struct rt_sigframe</c>: the return address, then the context; what follows is not read on return. Every frame has the FPU's state:
    /// a return without one would reset the FPU, and from the payload the thread may have to go home without us.
    /// </summary>
    private void WriteFrame(int index, UserRegs regs, ulong mask)
    {
        const ulong XstateAndStackSegment = 7; // UC_FP_XSTATE, UC_SIGCONTEXT_SS, UC_STRICT_RESTORE_SS
        const int NoSuchStackMode = 0x7777; // an alternate stack that the kernel refuses to set: it stays what it is
        var frame = _bytes.AsSpan(index * FrameSize, FrameSize);
        BinaryPrimitives.WriteUInt64LittleEndian(frame, _instructions.SignalReturn);
        BinaryPrimitives.WriteUInt64LittleEndian(frame[ContextOffset..], XstateAndStackSegment);
        BinaryPrimitives.WriteInt32LittleEndian(frame[(ContextOffset + 24)..], NoSuchStackMode);
        ReadOnlySpan<ulong> registers =
        [
            regs.R8, regs.R9, regs.R10, regs.R11, regs.R12, regs.R13, regs.R14, regs.R15, regs.Rdi, regs.Rsi, regs.Rbp, regs.Rbx,
            regs.Rdx, regs.Rax, regs.Rcx, regs.Rsp, regs.Rip, regs.Eflags, (regs.Cs & 0xFFFF) | ((regs.Ss & 0xFFFF) << 48), 0, 0, 0, 0, Address + (ulong)_fpuOffset,
        ];
        for (var i = 0; i < registers.Length; i++)
            BinaryPrimitives.WriteUInt64LittleEndian(frame[(RegistersOffset + (i * sizeof(ulong)))..], registers[i]);
        BinaryPrimitives.WriteUInt64LittleEndian(frame[MaskOffset..], mask);
    }

    /// <summary>The FPU's state in the form that a signal frame has: with its two magic numbers, and no larger than the process may have it.</summary>
    private static byte[] Fpu(ReadOnlySpan<byte> xstate)
    {
        var features = BinaryPrimitives.ReadUInt64LittleEndian(xstate[XstateSoftwareOffset..]);
        var inUse = BinaryPrimitives.ReadUInt64LittleEndian(xstate[XstateHeaderOffset..]);
        if ((inUse & Tiles) == 0)
            features &= ~Tiles;
        var size = SizeOf(features);
        var area = new byte[size + sizeof(uint)];
        xstate[..size].CopyTo(area);
        var software = area.AsSpan(XstateSoftwareOffset, 48);
        software.Clear();
        BinaryPrimitives.WriteUInt32LittleEndian(software, Magic1);
        BinaryPrimitives.WriteInt32LittleEndian(software[4..], size + sizeof(uint));
        BinaryPrimitives.WriteUInt64LittleEndian(software[8..], features);
        BinaryPrimitives.WriteInt32LittleEndian(software[16..], size);
        BinaryPrimitives.WriteUInt32LittleEndian(area.AsSpan(size), Magic2);
        return area;
    }

    private static int SizeOf(ulong features)
    {
        const int LegacyAndHeader = 576;
        var size = LegacyAndHeader;
        for (var feature = 2; feature < s_ends.Length; feature++)
        {
            if ((features >> feature & 1) != 0)
                size = Math.Max(size, s_ends[feature]);
        }

        return size;
    }

    private static int EndOf(int feature)
    {
        var (length, offset, _, _) = X86Base.CpuId(0xD, feature);
        return offset + length;
    }
}
