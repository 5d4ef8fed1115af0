using KvmTsc.Arithmetic;
using KvmTsc.Clocks;

namespace KvmTsc.Migration;

/// <summary>What became of a VM's clocks, read back after they were written.</summary>
public sealed class KvmTscMigrationResult
{
    internal KvmTscMigrationResult(
        KvmTscState source, string? machineName, KvmClock before, KvmClock after, TscRestoreOptions options, ClockLine line, bool hasMasterClock, KvmGuestClocks guestClocks,
        IReadOnlyList<KvmVcpuTscResult> vcpus)
    {
        SourceVMName = source.VMName;
        SourceMachineName = source.Host.MachineName;
        SourceClockNanoseconds = source.ClockNanoseconds;
        SourceStoppedMicroseconds = source.StoppedMicroseconds;
        VMName = after.VMName;
        MachineName = machineName;
        ProcessId = after.ProcessId;
        VMId = after.VMId;
        Method = options.Method;
        Downtime = options.Downtime;
        DowntimeNanoseconds = line.Downtime;
        OldClockNanoseconds = before.ClockNanoseconds;
        NewClockNanoseconds = after.ClockNanoseconds;
        ClockResidualNanoseconds = TscArithmetic.Distance(line.ExpectedClock, after.ClockNanoseconds);
        MeasuredBy = line.MeasuredBy;
        ErrorBoundNanoseconds = line.ErrorBoundNanoseconds;
        ClockErrorBoundNanoseconds = line.ClockErrorBoundNanoseconds;
        HasMasterClock = hasMasterClock;
        GuestClocks = guestClocks;
        Vcpus = vcpus.ToArray(); // PowerShell can index arrays, but not what the compiler makes of a collection expression
        StoppedMicroseconds = after.StoppedMicroseconds;
    }

    /// <summary>The VM that the state is of.</summary>
    public string? SourceVMName { get; }

    /// <summary>The host that the state is of.</summary>
    public string? SourceMachineName { get; }

    /// <summary>The VM that was restored.</summary>
    public string? VMName { get; }

    /// <summary>Its host.</summary>
    public string? MachineName { get; }

    /// <summary>The process that runs it.</summary>
    public int ProcessId { get; }

    /// <summary>The VM among those of its host.</summary>
    public string? VMId { get; }

    /// <summary>How the offsets were found.</summary>
    public TscMethod Method { get; }

    /// <summary>What became of the time during which the guest stood still.</summary>
    public TscDowntime Downtime { get; }

    /// <summary>The time between the capture of the state and the reading back.</summary>
    public long DowntimeNanoseconds { get; }

    /// <summary>kvmclock in the state.</summary>
    public ulong SourceClockNanoseconds { get; }

    /// <summary>kvmclock before.</summary>
    public ulong OldClockNanoseconds { get; }

    /// <summary>kvmclock, read back.</summary>
    public ulong NewClockNanoseconds { get; }

    /// <summary>The measured distance of kvmclock from what the source's would have been at that instant.</summary>
    public long ClockResidualNanoseconds { get; }

    /// <summary>The largest of the vCPUs' residuals, in ticks.</summary>
    public long ResidualTicks => Vcpus.MaxBy(vcpu => Int128.Abs(vcpu.ResidualTicks))!.ResidualTicks;

    /// <summary>The largest of the vCPUs' residuals, in nanoseconds.</summary>
    public double ResidualNanoseconds => Vcpus.MaxBy(vcpu => Int128.Abs(vcpu.ResidualTicks))!.ResidualNanoseconds;

    /// <summary>What the residuals were measured by.</summary>
    public ResidualMeasure MeasuredBy { get; }

    /// <summary>What the error can be by the inputs: clock synchronisation of both hosts, kHz rounding, slewing, and the time that setting kvmclock took.</summary>
    public double ErrorBoundNanoseconds { get; }

    /// <summary>
    /// The same for kvmclock as the guest sees it: more where the source's TSC is scaled, since KVM does not tell quite what such a guest sees.
    /// </summary>
    public double ClockErrorBoundNanoseconds { get; }

    /// <summary>
    /// Whether KVM's master clock is on. Where it is off for good, as for a VM whose host slept while it ran, kvmclock is a clock of each vCPU's, which KVM takes
    /// from the host's clock of boot time again and again, and not quite one line with the TSC.
    /// </summary>
    public bool HasMasterClock { get; }

    /// <summary>The clocks that the guest takes from KVM: the VMM's, which are hpet, acpi_pm, the PIT and the RTC, are not moved.</summary>
    public KvmGuestClocks GuestClocks { get; }

    /// <summary>The vCPUs, by ascending id.</summary>
    public IReadOnlyList<KvmVcpuTscResult> Vcpus { get; }

    /// <summary>For how long the source's VMM was stopped, in microseconds.</summary>
    public double SourceStoppedMicroseconds { get; }

    /// <summary>For how long this VM's VMM was stopped, in microseconds.</summary>
    public double StoppedMicroseconds { get; }
}
