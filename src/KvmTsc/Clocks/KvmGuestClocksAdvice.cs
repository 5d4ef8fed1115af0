using KvmTsc.Machines;

namespace KvmTsc.Clocks;

/// <summary>What to say of guests by <see cref="KvmGuestClocks"/>.</summary>
public static class KvmGuestClocksAdvice
{
    /// <summary>Whether it is to be said: the guest has run, and has turned none of them on.</summary>
    /// <param name="machine">The VM.</param>
    /// <param name="clocks">What its guest takes from KVM.</param>
    public static bool Concerns(Machine machine, KvmGuestClocks clocks) => clocks == KvmGuestClocks.None && machine.GuestHasRun && machine.GuestKeepsTime;

    /// <summary>What becomes of a guest that takes no clock from KVM.</summary>
    /// <param name="vmName">Its VM.</param>
    public static string Unmoved(string vmName) =>
        $"The guest of {vmName} uses neither kvmclock nor the reference clock of Hyper-V. hpet, acpi_pm, the PIT and the RTC are the VMM's, and are not moved; a guest whose clocksource is tsc watches it by one of them, and takes a jump of 0.5 ms to 0.5 s for a TSC that is unstable, until it is booted again.";

    /// <summary>What to do about it.</summary>
    public const string Action = "Give the VM kvmclock (for Windows, and where KVM is hidden, hv-time), or boot its guest with tsc=reliable.";
}
