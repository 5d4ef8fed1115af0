using System.Runtime.InteropServices;
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

    /// <summary>The process may have no executable memory, neither of its own nor of its program.</summary>
    public static KvmException MayNotMap(AttachTarget target, int? error) => new(
        KvmErrorId.AttachUnsupported,
        $"{target.VMName} may map no executable memory (SELinux execmem), and could not open its own program for that (/proc/self/exe): {(error is { } number ? Marshal.GetPInvokeErrorMessage(-number) : "a signal came")}. Nothing was changed.",
        "Let its domain open and map its program, or have executable memory (ausearch -m avc).");

    /// <summary>The VM was resumed, and not seen to be.</summary>
    public static KvmException Unseen(AttachTarget target, int threadId) => new(
        KvmErrorId.AttachFailed,
        $"{target.VMName} was resumed by thread {threadId}, which is not one of those that are named as its vCPUs' threads are. Its guest runs; nothing was changed.",
        "Restore without -AtResume, with -Force, or start the VM anew.");

    /// <summary>A thread comes to no stop.</summary>
    public static KvmException Stuck(AttachTarget target, int threadId, char? state) => state == 'D'
        ? new(
            KvmErrorId.AttachFailed,
            $"Thread {threadId} of {target.VMName} does not stop: it waits in the kernel for something that no signal ends (state D).",
            $"See what it waits for (cat /proc/{threadId}/stack), and try again when it does no more.")
        : Late($"Thread {threadId} of {target.VMName} does not stop: it does not get to run. Nothing was changed.", target);

    /// <summary>The thread that was to do the work does not get on.</summary>
    public static KvmException Late(AttachTarget target) =>
        Late($"The thread of {target.VMName} that was to do the work does not get to run. Nothing was changed.", target);

    /// <summary>The work was begun, and is finished inside the process, whenever that is.</summary>
    public static KvmException Unfinished(AttachTarget target) =>
        Late($"{target.VMName} does not get to run: its clocks are read or set as was asked for when it does, which is not waited for.", target);

    private static KvmException Late(string message, AttachTarget target) => new(
        KvmErrorId.AttachFailed, message, $"See whether a control group freezes or throttles it (cat /proc/{target.ProcessId}/cgroup; cgroup.freeze, cpu.max), and read the clocks when it runs.");
}
