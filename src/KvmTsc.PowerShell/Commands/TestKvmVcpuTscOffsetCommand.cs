using System.Management.Automation;
using KvmTsc.Local;
using KvmTsc.Machines;
using KvmTsc.SelfTest;

namespace KvmTsc.PowerShell.Commands;

/// <summary>Has a guest read its own TSC: the kernel's system counter offset test.</summary>
[Cmdlet(VerbsDiagnostic.Test, "KvmVcpuTscOffset", DefaultParameterSetName = NewVM)]
[OutputType(typeof(KvmTscOffsetTest))]
public sealed class TestKvmVcpuTscOffsetCommand : VcpuCommand
{
    private const string NewVM = "New";

    private static readonly long[] s_kernelCases = [0, 180_000_000_000, -180_000_000_000];

    /// <summary>Further offsets than those of the kernel's test: 0, +180e9 and -180e9 ticks.</summary>
    [Parameter(ParameterSetName = NewVM)]
    public long[] OffsetTicks { get; set; } = [];

    /// <summary>How many vCPUs the VM of the test has.</summary>
    [Parameter(ParameterSetName = NewVM)]
    [ValidateRange(1, int.MaxValue)]
    public int VcpuCount { get; set; } = 1;

    /// <summary>The TSC frequency of the VM of the test in kHz; the host's if none is given.</summary>
    [Parameter(ParameterSetName = NewVM)]
    [ValidateRange(1U, uint.MaxValue)]
    public uint? TscKHz { get; set; }

    /// <inheritdoc/>
    protected override void ProcessRecord()
    {
        if (ParameterSetName != NewVM)
            base.ProcessRecord();
        else if (VcpuId.Length > 0)
            For(null, () => throw NoVM());
        else
            For(null, () => Write(KvmTscOffsetTest.Run(VcpuCount, TscKHz, [.. s_kernelCases.Union(OffsetTicks)], Cancellation)));
    }

    /// <inheritdoc/>
    protected override void Process(Machine machine, IReadOnlyCollection<int> vcpuIds) => Write(KvmTscOffsetTest.Ask(Ours(machine), vcpuIds, Cancellation));

    private void Write(IEnumerable<KvmTscOffsetTest> results)
    {
        foreach (var result in results)
            WriteObject(result);
    }

    private static KvmException NoVM() => new(
        KvmErrorId.InvalidValue, "-VcpuId selects vCPUs of a VM, and no VM is named.", "Name the VM, or give the VM of the test its vCPUs with -VcpuCount.");

    private static LocalMachine Ours(Machine machine) => machine as LocalMachine ?? throw new KvmException(
        KvmErrorId.VMNotFound,
        $"{machine.Identity} is run by {machine.Vmm}: its guest cannot be asked.",
        "Ask a VM of this process (New-KvmVM), or leave the VM out to build one.");
}
