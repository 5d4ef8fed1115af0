using System.Runtime.InteropServices;

namespace KvmTsc.Interop;

/// <summary><c>struct user_regs_struct</c>, x86-64.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct UserRegs
{
    /// <summary>The code segment of 64-bit programs.</summary>
    public const ulong Code64 = 0x33;

    public ulong R15, R14, R13, R12, Rbp, Rbx, R11, R10, R9, R8, Rax, Rcx, Rdx, Rsi, Rdi, OrigRax, Rip, Cs, Eflags, Rsp, Ss;
    public ulong FsBase, GsBase, Ds, Es, Fs, Gs;
}
