using KvmTsc.Interop;
using KvmTsc.Processes;

namespace KvmTsc.Execution.Attach;

/// <summary>What the registers of a thread that stands still say of it: whether it was in a system call, and what becomes of that when it goes on.</summary>
internal static class RegistersAtStop
{
    private const ulong SyscallLength = 2;
    private const ulong SysRestart = 219;

    /// <summary>Whether it was in a system call.</summary>
    public static bool IsInSystemCall(in UserRegs regs) => (int)regs.OrigRax >= 0;

    /// <summary>
    /// The registers with which the thread can be sent back by a jump: where the kernel would restart its system call, they are such that
    /// it issues it again.
    /// </summary>
    public static UserRegs HomeOf(in UserRegs regs)
    {
        var home = regs;
        if (IsRestarted(regs))
            (home.Rax, home.Rip) = (HasRestartBlock(regs) ? SysRestart : regs.OrigRax, regs.Rip - SyscallLength);
        home.OrigRax = ulong.MaxValue;
        return home;
    }

    /// <summary>
    /// How well it can carry a batch, 0 best; negative if it cannot. The last choice is one whose system call a handler ends: a carrier
    /// issues it again in any case.
    /// </summary>
    public static int CarrierRankOf(in UserRegs regs) => HasRestartBlock(regs) || IsAboutToRestart(regs) ? -1
        : IsInSystemCall(regs) && (int)regs.OrigRax == SystemCall.Ioctl && (uint)regs.Rsi == (uint)KvmRequest.Run ? 0
        : !IsInSystemCall(regs) ? 2
        : ResultOf(regs) == -Errno.ERESTARTNOHAND ? 3
        : 1;

    /// <summary>Whether it was in a system call that our stop ended with EINTR.</summary>
    public static bool IsInterrupted(in UserRegs regs) =>
        -ResultOf(regs) == Errno.EINTR && IsInSystemCall(regs) && Interruption.Ends((int)regs.OrigRax);

    /// <summary>Whether it is at the entry of a system call.</summary>
    public static bool Enters(in UserRegs regs, int number)
    {
        const int NoSystemCallYet = -38; // ENOSYS, until the call has a result
        return ResultOf(regs) == NoSystemCallYet && (int)regs.OrigRax == number;
    }

    /// <summary>Whether it is at the entry of a system call, one whose second argument is as given.</summary>
    public static bool EntersSystemCall(in UserRegs regs, int number, nuint secondArgument) =>
        Enters(regs, number) && (uint)regs.Rsi == (uint)secondArgument;

    private static int ResultOf(in UserRegs regs) => (int)regs.Rax;

    private static bool IsRestarted(in UserRegs regs) =>
        IsInSystemCall(regs) && -ResultOf(regs) is Errno.ERESTARTSYS or Errno.ERESTARTNOINTR or Errno.ERESTARTNOHAND or Errno.ERESTART_RESTARTBLOCK;

    /// <summary>
    /// Whether it has been stopped once more where the kernel has set it to issue restart_syscall(2), in the kernel or at that instruction. Any call may have had
    /// that number for its result, too, which is only a reason to take another thread.
    /// </summary>
    private static bool IsAboutToRestart(in UserRegs regs) => regs.Rax == SysRestart;

    private static bool HasRestartBlock(in UserRegs regs) => IsInSystemCall(regs) && -ResultOf(regs) == Errno.ERESTART_RESTARTBLOCK;
}
