using System.Management.Automation;
using KvmTsc.Clocks;
using KvmTsc.Machines;

namespace KvmTsc.PowerShell.Commands;

/// <summary>Reads the TSC offset per vCPU.</summary>
[Cmdlet(VerbsCommon.Get, "KvmVcpuTscOffset", DefaultParameterSetName = ByName)]
[OutputType(typeof(KvmVcpuTscOffset))]
public sealed class GetKvmVcpuTscOffsetCommand : VcpuCommand
{
    /// <inheritdoc/>
    protected override void Process(Machine machine, IReadOnlyCollection<int> vcpuIds) =>
        WriteObject(GuestTsc.ReadOffsets(machine, vcpuIds, Cancellation), enumerateCollection: true);
}
