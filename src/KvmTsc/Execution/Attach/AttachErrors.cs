using System.Globalization;
using KvmTsc.Interop;
using KvmTsc.Machines;

namespace KvmTsc.Execution.Attach;

/// <summary>Why one cannot work in a process, and what to do about it.</summary>
internal static class AttachErrors
{
    public const int CapSysPtrace = 19;
    public const int CapSysAdmin = 21;

    /// <summary>Whether this process has a capability.</summary>
    public static bool HasCapability(int capability) =>
        File.ReadLines("/proc/self/status").FirstOrDefault(line => line.StartsWith("CapEff:", StringComparison.Ordinal)) is { } line
        && (ulong.Parse(line[7..].Trim(), NumberStyles.HexNumber, CultureInfo.InvariantCulture) >> capability & 1) != 0;

    public static KvmException Traced(string name, int tracer) => new(
        KvmErrorId.AlreadyTraced,
        $"{name} is traced by process {tracer} already.",
        $"End the debugger or strace first: ps -p {tracer}.");

    public static KvmException Seccomp(string name) => new(
        KvmErrorId.SeccompFilter,
        $"{name} filters system calls by seccomp, and only an administrator may have the kernel suspend that.",
        "Run PowerShell as root (CAP_SYS_ADMIN).");

    public static KvmException Unsupported(string message, string action) => new(KvmErrorId.AttachUnsupported, message, action);

    /// <summary>Explains why the kernel lets us not in.</summary>
    public static KvmException Denied(AttachTarget target, TargetStatus status, int errno)
    {
        var name = $"{target.VMName} (process {target.ProcessId})";
        if (errno is Errno.ESRCH or Errno.ENOENT)
            return new KvmException(KvmErrorId.ProcessGone, $"{name} is gone.", "List the VMs there are with Get-KvmVM.") { ErrorNumber = errno };
        if (status.TracerId != 0)
            return Traced(name, status.TracerId);
        return new KvmException(KvmErrorId.AttachDenied, $"{Environment.UserName} may not work in {name}: {Reason(status)}.", Action(status)) { ErrorNumber = errno };
    }

    private static string Reason(TargetStatus status) => KernelFiles.ReadNumber("/proc/sys/kernel/yama/ptrace_scope") switch
    {
        3 => "Yama forbids it to everybody (kernel.yama.ptrace_scope is 3)",
        2 when !HasCapability(CapSysPtrace) => "Yama leaves it to administrators (kernel.yama.ptrace_scope is 2)",
        1 when !HasCapability(CapSysPtrace) && OwnsIt(status) => "Yama leaves it to its parents (kernel.yama.ptrace_scope is 1)",
        _ when !OwnsIt(status) => $"it runs as user {status.UserId}",
        _ => "it does not let itself be traced (not dumpable), or a security module forbids it",
    };

    private static string Action(TargetStatus status) => KernelFiles.ReadNumber("/proc/sys/kernel/yama/ptrace_scope") == 3
        ? "Nothing changes that before the next boot: sysctl kernel.yama.ptrace_scope in /etc/sysctl.d."
        : OwnsIt(status) || !HasCapability(CapSysPtrace)
            ? "Run PowerShell as root (sudo pwsh), or with CAP_SYS_PTRACE."
            : "See the security module's log (ausearch -m avc, dmesg).";

    private static bool OwnsIt(TargetStatus status) => TargetStatus.Read("/proc/self")?.UserId == status.UserId;

    /// <summary>What went wrong while a process was worked in.</summary>
    public static KvmException Failed(string message) => new(
        KvmErrorId.AttachFailed, message, "Try again. If it stays so, a security module may forbid it (ausearch -m avc, dmesg).");
}
