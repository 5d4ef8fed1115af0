using System.Management.Automation;
using KvmTsc.Machines;

namespace KvmTsc.PowerShell.Commands;

/// <summary>Lists the vCPUs of VMs.</summary>
[Cmdlet(VerbsCommon.Get, "KvmVcpu", DefaultParameterSetName = ByName)]
[OutputType(typeof(KvmVcpu))]
public sealed class GetKvmVcpuCommand : VcpuCommand
{
    /// <inheritdoc/>
    protected override void Process(Machine machine, IReadOnlyCollection<int> vcpuIds) =>
        WriteObject(machine.DescribeVcpus().Where(vcpu => vcpuIds.Contains(vcpu.VcpuId)), enumerateCollection: true);
}
