using KvmTsc.Processes;

namespace KvmTsc.Execution.Attach;

/// <summary>What becomes of system calls that a stop interrupts: signal(7).</summary>
internal static class Interruption
{
    // Where the kernel restarts others, these return EINTR after any stop.
    private static readonly HashSet<int> s_endedByStop =
    [
        45, 47, 42, 43, 288, 44, 46, 299, 307, // receiving and sending with a timeout
        65, 220, 70, 69, // semop, semtimedop, msgrcv, msgsnd
        128, 208, 232, 281, 441, 426, // rt_sigtimedwait, io_getevents, epoll_wait, epoll_pwait, epoll_pwait2, io_uring_enter
    ];

    private static readonly HashSet<int> s_endedByHandler = [23, 270, 271, 34, 130]; // select, pselect6, ppoll, pause, rt_sigsuspend

    private static readonly HashSet<int> s_restartedInBlocks = [7, 35, 219, 230, 449]; // poll, nanosleep, restart_syscall, clock_nanosleep, futex_waitv

    private const int Futex = 202;
    private const int FutexTimeout = 3;

    /// <summary>Whether a system call returns EINTR after any stop.</summary>
    public static bool Ends(int number) => s_endedByStop.Contains(number);

    /// <summary>
    /// How well a thread that does this could carry a batch, as far as can be told without stopping it, 0 best; null if it could not: where the kernel
    /// restarts by a restart block. <see cref="Tracee.CarrierRank"/> has the last word.
    /// </summary>
    public static int? LenderRank(SystemCall call) => call switch
    {
        { Number: Futex } when call.Arguments[FutexTimeout] != 0 => null,
        { Number: { } number } when s_restartedInBlocks.Contains(number) => null,
        { Number: { } number } when s_endedByHandler.Contains(number) => 2,
        { Number: { } number } when Ends(number) => 3,
        { Number: null } => 1,
        _ => 0,
    };
}
