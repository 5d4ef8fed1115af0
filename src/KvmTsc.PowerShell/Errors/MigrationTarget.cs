using KvmTsc.PowerShell.Binding;

namespace KvmTsc.PowerShell.Errors;

/// <summary>What an error of a migration is about: its destination, so that each line of a plan can be told from the others.</summary>
/// <param name="VMName">The VM's name.</param>
/// <param name="ProcessId">The process that runs it.</param>
/// <param name="VMId">The VM among those of its host.</param>
/// <param name="ComputerName">The session's name for its host, null for this one.</param>
/// <param name="VcpuId">The vCPU, null for all.</param>
public sealed record MigrationTarget(string? VMName, int? ProcessId, string? VMId, string? ComputerName, int? VcpuId = null)
{
    /// <summary>A VM.</summary>
    public MigrationTarget(VMReference vm, string? computerName)
        : this(vm.VMName, vm.ProcessId, vm.VMId, computerName)
    {
    }

    /// <inheritdoc/>
    public override string ToString() =>
        new VMReference(VMName, ProcessId, VMId) + (ComputerName is null ? "" : $" on {ComputerName}") + (VcpuId is null ? "" : $" vCPU {VcpuId}");
}
