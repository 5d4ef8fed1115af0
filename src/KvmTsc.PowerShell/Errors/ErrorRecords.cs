using System.Management.Automation;

namespace KvmTsc.PowerShell.Errors;

/// <summary>Turns the engine's errors into PowerShell's.</summary>
internal static class ErrorRecords
{
    /// <summary>The error record of an engine's error.</summary>
    public static ErrorRecord From(KvmException exception, object? target) =>
        new(exception, exception.ErrorId.ToString(), CategoryOf(exception.ErrorId), TargetOf(exception, target))
        {
            ErrorDetails = new ErrorDetails(exception.Message) { RecommendedAction = exception.RecommendedAction },
        };

    /// <summary>Whether no further target can fare better.</summary>
    public static bool EndsEverything(KvmException exception) => exception.ComputerName is null && exception.ErrorId is
        KvmErrorId.NotLinux or KvmErrorId.NotX64 or KvmErrorId.NoKvmDevice or KvmErrorId.KvmAccessDenied or KvmErrorId.KvmApiVersion;

    private static object? TargetOf(KvmException exception, object? target) => (exception.VcpuId, target) switch
    {
        (null, _) => target,
        ({ } id, MigrationTarget migration) => migration with { VcpuId = id },
        ({ } id, _) => $"{target} vCPU {id}".TrimStart(),
    };

    private static ErrorCategory CategoryOf(KvmErrorId errorId) => errorId switch
    {
        KvmErrorId.NotLinux or KvmErrorId.NotX64 or KvmErrorId.KvmApiVersion or KvmErrorId.TscOffsetUnsupported
            or KvmErrorId.ClockTripleUnsupported or KvmErrorId.AttachUnsupported or KvmErrorId.StateVersionUnsupported => ErrorCategory.NotImplemented,
        KvmErrorId.NoKvmDevice or KvmErrorId.DebugfsUnavailable or KvmErrorId.TracefsUnavailable => ErrorCategory.ResourceUnavailable,
        KvmErrorId.KvmAccessDenied or KvmErrorId.AttachDenied or KvmErrorId.SeccompFilter => ErrorCategory.PermissionDenied,
        KvmErrorId.AlreadyTraced or KvmErrorId.BusyWithKvmTsc => ErrorCategory.ResourceBusy,
        KvmErrorId.ResumeTimeout => ErrorCategory.OperationTimeout,
        KvmErrorId.VMNotFound or KvmErrorId.VMRemoved or KvmErrorId.VcpuNotFound or KvmErrorId.ProcessGone
            or KvmErrorId.FileNotFound => ErrorCategory.ObjectNotFound,
        KvmErrorId.VMNameTaken or KvmErrorId.FileExists => ErrorCategory.ResourceExists,
        KvmErrorId.VcpuCountOutOfRange or KvmErrorId.FrequencyUnsupported or KvmErrorId.RealtimeInvalid or KvmErrorId.SameVM
            or KvmErrorId.PathUnsupported => ErrorCategory.InvalidArgument,
        KvmErrorId.InvalidValue or KvmErrorId.VcpuMismatch or KvmErrorId.StateDocumentInvalid or KvmErrorId.PolicyInvalid => ErrorCategory.InvalidData,
        KvmErrorId.ClockWithoutTriple or KvmErrorId.UnequalOffsets or KvmErrorId.RealtimeInFuture or KvmErrorId.ClockBackwards
            or KvmErrorId.GuestTscBackwards or KvmErrorId.DowntimeExceeded
            or KvmErrorId.UnequalFrequencies or KvmErrorId.AdvanceTooLarge or KvmErrorId.ClockUnsynchronized or KvmErrorId.ClockUncertain
            or KvmErrorId.ClocksDisagree or KvmErrorId.TaiOffsetChanged => ErrorCategory.InvalidOperation,
        KvmErrorId.FileReadFailed => ErrorCategory.ReadError,
        KvmErrorId.ReadBackMismatch or KvmErrorId.RollbackFailed or KvmErrorId.FileWriteFailed => ErrorCategory.WriteError,
        _ => ErrorCategory.NotSpecified,
    };
}
