using System.Management.Automation;
using KvmTsc.Local;
using KvmTsc.Machines;

namespace KvmTsc.PowerShell.Commands;

/// <summary>Creates a VM of this process, for verification and rehearsal.</summary>
[Cmdlet(VerbsCommon.New, "KvmVM", SupportsShouldProcess = true, ConfirmImpact = ConfirmImpact.Low)]
[OutputType(typeof(KvmVM))]
public sealed class NewKvmVMCommand : KvmCommand
{
    /// <summary>Its name; the next free of vm1, vm2, ... if none is given.</summary>
    [Parameter(Position = 0, ValueFromPipeline = true)]
    [ValidateNotNullOrEmpty]
    [ValidatePattern(@"^[^*?\[\]]+$")]
    [Alias("VMName")]
    public string? Name { get; set; }

    /// <summary>How many vCPUs it has.</summary>
    [Parameter(Position = 1)]
    [ValidateRange(1, int.MaxValue)]
    public int VcpuCount { get; set; } = 1;

    /// <summary>The guest's TSC frequency in kHz; the host's if none is given.</summary>
    [Parameter]
    [ValidateRange(1U, uint.MaxValue)]
    public uint? TscKHz { get; set; }

    /// <inheritdoc/>
    protected override void ProcessRecord() => For(Name, () =>
    {
        var frequency = TscKHz is { } kHz ? $" at {kHz} kHz" : "";
        if (ShouldProcess(Name ?? "the next free name", $"Create a VM of this process with {VcpuCount} vCPU(s){frequency}"))
            WriteObject(new KvmVM(LocalMachines.Create(Name, VcpuCount, TscKHz)));
    });
}
