using System.Globalization;
using System.Management.Automation;
using KvmTsc.Clocks;
using KvmTsc.Machines;
using KvmTsc.PowerShell.Wording;

namespace KvmTsc.PowerShell.Commands;

/// <summary>Brings the vCPUs of VMs back to one TSC offset, and KVM's master clock back on.</summary>
[Cmdlet(VerbsDiagnostic.Repair, "KvmMasterClock", DefaultParameterSetName = ByName, SupportsShouldProcess = true)]
[OutputType(typeof(KvmMasterClockRepair))]
public sealed class RepairKvmMasterClockCommand : VMCommand
{
    /// <summary>By how many seconds the TSC of a vCPU may be advanced.</summary>
    [Parameter]
    [ValidateRange(0.0, double.MaxValue)]
    public double MaximumAdvanceSeconds { get; set; } = MasterClock.DefaultMaximumAdvanceSeconds;

    /// <summary>Advances TSCs however far, and writes also where nothing needs repair.</summary>
    [Parameter]
    public SwitchParameter Force { get; set; }

    /// <inheritdoc/>
    protected override void Process(Machine machine)
    {
        var plan = MasterClock.Preview(machine, MaximumAdvanceSeconds, Force, Cancellation);
        if (!plan.IsNeeded || ShouldProcess(machine.Identity.ToString(), Question(plan)))
            WriteObject(MasterClock.Repair(machine, MaximumAdvanceSeconds, Force, Cancellation));
    }

    private static string Question(MasterClockPlan plan)
    {
        var advanced = plan.Vcpus.Where(vcpu => vcpu.AdvancedTicks > 0).Select(vcpu => vcpu.VcpuId).ToArray();
        var most = plan.Vcpus.MaxBy(vcpu => vcpu.AdvancedTicks)!;
        var advance = advanced.Length == 0
            ? "advance no vCPU"
            : string.Create(
                CultureInfo.InvariantCulture,
                $"advance vCPU {VcpuRange.Format(advanced)} by {(advanced.Length > 1 ? "up to " : "")}{most.AdvancedTicks} ticks ({most.AdvancedNanoseconds:0} ns)");
        return $"Set the TSC offset of {plan.Vcpus.Count} vCPU(s) from {Text.Common(plan.Vcpus.Select(vcpu => vcpu.OldOffsetTicks))} to {plan.OffsetTicks} ticks: "
            + $"{advance}, and turn the master clock on with kvmclock going on from {Text.Seconds(plan.ClockNanoseconds)}";
    }
}
