using System.Management.Automation;
using KvmTsc.Clocks;
using KvmTsc.Machines;

namespace KvmTsc.PowerShell.Commands;

/// <summary>Reads the guest's TSC frequency per vCPU.</summary>
[Cmdlet(VerbsCommon.Get, "KvmTscFrequency", DefaultParameterSetName = ByName)]
[OutputType(typeof(KvmTscFrequency))]
public sealed class GetKvmTscFrequencyCommand : VcpuCommand
{
    /// <inheritdoc/>
    protected override void Process(Machine machine, IReadOnlyCollection<int> vcpuIds) =>
        WriteObject(GuestTsc.ReadFrequencies(machine, vcpuIds, Cancellation), enumerateCollection: true);
}
