using KvmTsc.Migration;

namespace KvmTsc.PowerShell.Wording;

/// <summary>Questions that more than one command asks.</summary>
internal static class Questions
{
    /// <summary>What a restore changes, from what to what.</summary>
    public static string Restore(TscRestorePreview preview, string? source)
    {
        var oldKHz = Text.Common(preview.Vcpus.Select(vcpu => vcpu.OldKHz));
        var newKHz = Text.Common(preview.Vcpus.Select(vcpu => vcpu.NewKHz));
        var frequency = oldKHz == newKHz ? "" : $", TSC frequency from {oldKHz} to {newKHz} kHz";
        return $"Restore the clocks of {source}: kvmclock from {Text.Seconds(preview.OldClock)} to {Text.Seconds(preview.NewClock)}{frequency}, "
            + $"TSC offset of {preview.Vcpus.Count} vCPU(s) from {Text.Common(preview.Vcpus.Select(vcpu => vcpu.OldOffset))} "
            + $"to {NewOffsets(preview)} ticks, and on with the time that passes until then";
    }

    /// <summary>The question that is asked before a restore on another host: only the other host can tell how its VM's clocks stand.</summary>
    public static string RestoreThere(KvmTscState state, TscRestoreOptions options, bool atResume)
    {
        var when = atResume ? "when the VM is resumed" : "at once";
        var advanced = options.Downtime == TscDowntime.Count ? ", and the time since" : "";
        return $"Restore the clocks of {state.VMName} {when}: kvmclock to {Text.Seconds(state.ClockNanoseconds)}{advanced}, "
            + $"the TSC of {state.Vcpus.Count} vCPU(s) likewise (-Method {options.Method})";
    }

    private static string NewOffsets(TscRestorePreview preview) => preview.Vcpus.Any(vcpu => vcpu.NewOffset is null)
        ? "what follows from its clock once that is set"
        : Text.Common(preview.Vcpus.Select(vcpu => vcpu.NewOffset));
}
