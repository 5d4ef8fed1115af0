using KvmTsc.Interop;
using KvmTsc.Processes;

namespace KvmTsc.Execution.Attach;

/// <summary>What goes wrong where nothing was known to stand in the way.</summary>
internal static class AttachErrors
{
    /// <summary>The process is such that nothing can be run inside it.</summary>
    public static KvmException Unsupported(string message, string action) => new(KvmErrorId.AttachUnsupported, message, action);

    /// <summary>The kernel does not let us in.</summary>
    public static KvmException Denied(AttachTarget target, int errno)
    {
        var name = $"{target.VMName} (process {target.ProcessId})";
        return errno is Errno.ESRCH or Errno.ENOENT
            ? new KvmException(KvmErrorId.ProcessGone, $"{name} is gone.", "List the VMs there are with Get-KvmVM.") { ErrorNumber = errno }
            : new KvmException(
                KvmErrorId.AttachDenied,
                $"{CurrentUser.Name} may not work in {name}: it does not let itself be traced (not dumpable), another tracer came first, or a security module forbids it.",
                "Run PowerShell as root (sudo pwsh). See the security module's log (ausearch -m avc, dmesg).")
            {
                ErrorNumber = errno,
            };
    }

    /// <summary>What went wrong while a process was worked in.</summary>
    public static KvmException Failed(string message) => new(
        KvmErrorId.AttachFailed, message, "Try again. If it stays so, a security module may forbid it (ausearch -m avc, dmesg).");

    /// <summary>A thread cannot be stopped.</summary>
    public static KvmException Stuck(AttachTarget target, int threadId) => new(
        KvmErrorId.AttachFailed,
        $"Thread {threadId} of {target.VMName} does not stop: it waits in the kernel for something that no signal ends (state D).",
        $"See what it waits for (cat /proc/{threadId}/stack), and try again when it does no more.");
}
