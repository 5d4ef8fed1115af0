namespace KvmTsc.Processes;

/// <summary>The Yama security module, which restricts who may trace whom.</summary>
internal static class Yama
{
    /// <summary>0 as ever, 1 descendants only, 2 with CAP_SYS_PTRACE only, 3 nobody; null without Yama.</summary>
    public static int? PtraceScope => (int?)KernelFiles.ReadNumber("/proc/sys/kernel/yama/ptrace_scope");
}
