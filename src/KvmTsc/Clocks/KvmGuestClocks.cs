namespace KvmTsc.Clocks;

/// <summary>
/// The clocks that a guest takes from KVM, which move with what is written. hpet, acpi_pm, the PIT and the RTC are the VMM's, and do not.
/// </summary>
[Flags]
public enum KvmGuestClocks
{
    /// <summary>It has turned none on: its guest does not run yet, or goes by its TSC alone, or by a clock of the VMM's.</summary>
    None = 0,

    /// <summary>kvmclock, by <c>MSR_KVM_SYSTEM_TIME_NEW</c> or <c>MSR_KVM_SYSTEM_TIME</c>.</summary>
    Kvmclock = 1,

    /// <summary>The reference TSC page of Hyper-V, by <c>HV_X64_MSR_REFERENCE_TSC</c>.</summary>
    HyperV = 2,
}
