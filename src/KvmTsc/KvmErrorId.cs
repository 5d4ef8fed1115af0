namespace KvmTsc;

/// <summary>What went wrong, stable across versions: the cmdlets use these names as error ids.</summary>
public enum KvmErrorId
{
    /// <summary>This is not Linux.</summary>
    NotLinux,

    /// <summary>This process is not x86-64.</summary>
    NotX64,

    /// <summary>There is no <c>/dev/kvm</c>.</summary>
    NoKvmDevice,

    /// <summary><c>/dev/kvm</c> may not be opened by this user.</summary>
    KvmAccessDenied,

    /// <summary><c>/dev/kvm</c> speaks another API version than 12.</summary>
    KvmApiVersion,

    /// <summary>The kernel lacks <c>KVM_VCPU_TSC_OFFSET</c> (Linux 5.16).</summary>
    TscOffsetUnsupported,

    /// <summary>The kernel's <c>KVM_GET_CLOCK</c> gives no host TSC and CLOCK_REALTIME (Linux 5.16).</summary>
    ClockTripleUnsupported,

    /// <summary>No VM by that name, process or id.</summary>
    VMNotFound,

    /// <summary>The VM was removed.</summary>
    VMRemoved,

    /// <summary>A VM of this process has that name already.</summary>
    VMNameTaken,

    /// <summary>The VM has no such vCPU.</summary>
    VcpuNotFound,

    /// <summary>The kernel does not create VMs with that many vCPUs.</summary>
    VcpuCountOutOfRange,

    /// <summary>The VM's clock has no host TSC and CLOCK_REALTIME: it never ran, or its master clock is off.</summary>
    ClockWithoutTriple,

    /// <summary>The vCPUs' TSC offsets differ, or would.</summary>
    UnequalOffsets,

    /// <summary>The vCPUs' TSC frequencies differ.</summary>
    UnequalFrequencies,

    /// <summary>A guest's TSC would be advanced by more than is allowed.</summary>
    AdvanceTooLarge,

    /// <summary>The CLOCK_REALTIME given lies in this host's future.</summary>
    RealtimeInFuture,

    /// <summary>The CLOCK_REALTIME given is no reading of a clock.</summary>
    RealtimeInvalid,

    /// <summary>CLOCK_REALTIME of a host is not synchronised.</summary>
    ClockUnsynchronized,

    /// <summary>CLOCK_REALTIME of two hosts may be off by more than is allowed.</summary>
    ClockUncertain,

    /// <summary>CLOCK_REALTIME of two hosts is farther apart than they claim.</summary>
    ClocksDisagree,

    /// <summary>The hosts differ in how far TAI is ahead of UTC: a leap second.</summary>
    TaiOffsetChanged,

    /// <summary>kvmclock would go backwards.</summary>
    ClockBackwards,

    /// <summary>A guest's TSC would go backwards.</summary>
    GuestTscBackwards,

    /// <summary>The guest stood still for longer than is allowed.</summary>
    DowntimeExceeded,

    /// <summary>The state's vCPUs are not the VM's.</summary>
    VcpuMismatch,

    /// <summary>That TSC frequency cannot be had on this host.</summary>
    FrequencyUnsupported,

    /// <summary>A value is outside of what its field can hold, or contradicts another.</summary>
    InvalidValue,

    /// <summary>The same VM as source and as destination.</summary>
    SameVM,

    /// <summary>A KVM ioctl failed.</summary>
    IoctlFailed,

    /// <summary>A value read back is not the one written.</summary>
    ReadBackMismatch,

    /// <summary>A write failed and what had been written before could not all be put back.</summary>
    RollbackFailed,

    /// <summary>The process that ran the VM is gone.</summary>
    ProcessGone,

    /// <summary>This user may not work inside the process that runs the VM.</summary>
    AttachDenied,

    /// <summary>Another tracer, such as a debugger, is in the process that runs the VM.</summary>
    AlreadyTraced,

    /// <summary>Another KvmTsc command is at work in the process that runs the VM, and stays.</summary>
    BusyWithKvmTsc,

    /// <summary>The process that runs the VM filters system calls by seccomp, and the filter may not be suspended.</summary>
    SeccompFilter,

    /// <summary>The process that runs the VM is such that nothing can be run inside it.</summary>
    AttachUnsupported,

    /// <summary>Working inside the process that runs the VM failed.</summary>
    AttachFailed,

    /// <summary>Debugfs, which tells of a VM without stopping it, cannot be read or does not show it.</summary>
    DebugfsUnavailable,

    /// <summary>The VM was not resumed in the time that was given.</summary>
    ResumeTimeout,

    /// <summary>A path names nothing in the file system, or more than one file where one is wanted.</summary>
    PathUnsupported,

    /// <summary>KVM's tracepoints cannot be used.</summary>
    TracefsUnavailable,

    /// <summary>There is no such file or directory.</summary>
    FileNotFound,

    /// <summary>There is such a file already.</summary>
    FileExists,

    /// <summary>A file cannot be read.</summary>
    FileReadFailed,

    /// <summary>A file cannot be written; there is none then, or the one that was there is as before.</summary>
    FileWriteFailed,

    /// <summary>A document is no state, not whole, was altered, or holds values that no kernel gives.</summary>
    StateDocumentInvalid,

    /// <summary>A file does not say what a watch is to do.</summary>
    PolicyInvalid,

    /// <summary>A document is a state of a version that this KvmTsc does not know.</summary>
    StateVersionUnsupported,

    /// <summary>Another call to the system failed.</summary>
    SystemCallFailed,

    /// <summary>The session to another host ended before its command did.</summary>
    SessionLost,

    /// <summary>The other host does not have this module.</summary>
    RemoteModuleMissing,

    /// <summary>Something failed on another host that is no error of this module.</summary>
    RemoteFailed,
}
