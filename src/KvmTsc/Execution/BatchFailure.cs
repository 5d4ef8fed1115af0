using System.Runtime.InteropServices;
using KvmTsc.Interop;

namespace KvmTsc.Execution;

/// <summary>Turns the outcome of a batch into the error that its reader needs.</summary>
internal static class BatchFailure
{
    /// <summary>Runs a batch and throws if it failed.</summary>
    public static void RunOrThrow(this IVMStop stop, IoctlBatch batch, string vmName)
    {
        var outcome = stop.Run(batch);
        if (!outcome.Succeeded)
            throw Explain(batch, outcome, vmName);
    }

    private static KvmException Explain(IoctlBatch batch, BatchOutcome outcome, string vmName)
    {
        var index = outcome.FailedStep!.Value;
        var step = batch.Steps[index];
        var where = step.VcpuId is { } id ? $"vCPU {id} of {vmName}" : vmName;
        var what = step.Kind switch
        {
            BatchStepKind.Ioctl or BatchStepKind.Attempt => $"{KvmRequest.NameOf(step.Request)} on {where} failed: {Marshal.GetPInvokeErrorMessage(outcome.ErrorNumber)} (errno {outcome.ErrorNumber}).",
            BatchStepKind.ExpectBits => $"kvmclock of {vmName} has no host TSC and CLOCK_REALTIME after it was set: its master clock is off.",
            _ => $"What was written to {where} does not read back.",
        };
        return new KvmException(IdOf(batch, step, outcome), what + Undone(batch, outcome, index), ActionFor(batch, step, outcome))
        {
            VcpuId = step.VcpuId,
            ErrorNumber = outcome.ErrorNumber,
        };
    }

    private static string Undone(IoctlBatch batch, BatchOutcome outcome, int failedStep)
    {
        if (!batch.Undo.Any(undo => failedStep >= undo.From))
            return " Nothing was changed.";
        if (outcome.UndoFailures.Count == 0)
        {
            var lasting = LastingOf(batch, failedStep).ToArray();
            return lasting.Length == 0
                ? " What had been written before was put back."
                : $" What had been written before was put back, but {string.Join(", ", lasting)}.";
        }

        var left = outcome.UndoFailures.Select(i => batch.Undo[i].Step).Select(step =>
            KvmRequest.NameOf(step.Request) + (step.VcpuId is { } id ? $" of vCPU {id}" : ""));
        return $" What had been written before could not all be put back: {string.Join(", ", left)} failed too.";
    }

    private static IEnumerable<string> LastingOf(IoctlBatch batch, int failedStep) =>
        batch.Lasting.Where(lasting => lasting.Step < failedStep).Select(lasting => lasting.What);

    private static KvmErrorId IdOf(IoctlBatch batch, BatchStep step, BatchOutcome outcome) => (step.Kind, outcome.ErrorNumber) switch
    {
        _ when outcome.UndoFailures.Count > 0 || LastingOf(batch, outcome.FailedStep!.Value).Any() => KvmErrorId.RollbackFailed,
        (BatchStepKind.ExpectBits, _) => KvmErrorId.ClockWithoutTriple,
        (BatchStepKind.ExpectEqual, _) => KvmErrorId.ReadBackMismatch,
        // Before Linux 5.16 x86 vCPUs had no attributes at all, and KVM answers what it does not know with EINVAL.
        (_, Errno.ENXIO or Errno.EINVAL or Errno.ENOTTY) when IsAttribute(step.Request) => KvmErrorId.TscOffsetUnsupported,
        (_, Errno.EINVAL) when step.Request == KvmRequest.SetTscKHz => KvmErrorId.FrequencyUnsupported,
        _ => KvmErrorId.IoctlFailed,
    };

    private static string ActionFor(IoctlBatch batch, BatchStep step, BatchOutcome outcome) => IdOf(batch, step, outcome) switch
    {
        KvmErrorId.RollbackFailed => "Read the VM's clock, offsets and frequencies, and set them again; the state it had is in the output of Save-KvmTscState.",
        KvmErrorId.ClockWithoutTriple => "See that this host's clocksource is tsc (Get-KvmHost), and that all vCPUs have one TSC offset.",
        KvmErrorId.TscOffsetUnsupported => "This kernel has no KVM_VCPU_TSC_OFFSET; it came in Linux 5.16.",
        KvmErrorId.FrequencyUnsupported => "See the host's TSC frequency and whether it scales: Get-KvmHost.",
        KvmErrorId.ReadBackMismatch => "Something else sets this VM's clocks at the same time, KVM corrects its TSC (catch-up mode), or the TSC is the guest's own to set, and KVM takes writes without effect (SEV-SNP with Secure TSC, TDX): find out which.",
        _ => outcome.ErrorNumber switch
        {
            Errno.EIO => "The VM belongs to another process, or its owner is ending: see Get-KvmVM.",
            Errno.EBADF => "The VM is gone: see Get-KvmVM.",
            _ => "See the kernel's log (dmesg).",
        },
    };

    private static bool IsAttribute(nuint request) =>
        request == KvmRequest.SetDeviceAttr || request == KvmRequest.GetDeviceAttr || request == KvmRequest.HasDeviceAttr;
}
