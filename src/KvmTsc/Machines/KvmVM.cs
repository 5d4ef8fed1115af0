using KvmTsc.Processes;

namespace KvmTsc.Machines;

/// <summary>A VM on this host, as it was when it was looked at.</summary>
public sealed class KvmVM
{
    /// <summary>Creates a value.</summary>
    public KvmVM(string? vmName, int processId, string? vmId, string? vmm, int vcpuCount, bool canAttach, string? reason)
    {
        VMName = vmName;
        ProcessId = processId;
        VMId = vmId;
        Vmm = vmm;
        VcpuCount = vcpuCount;
        CanAttach = canAttach;
        Reason = reason;
    }

    /// <summary>Describes a machine.</summary>
    /// <param name="machine">The machine.</param>
    /// <param name="rights">What this process may, null to look at that as well.</param>
    public KvmVM(Machine machine, OwnRights? rights = null) : this(machine, machine.FindAttachObstacle(rights))
    {
    }

    private KvmVM(Machine machine, AttachObstacle? obstacle) : this(
        machine.Identity.Name, machine.Identity.ProcessId, machine.Identity.Id, machine.Vmm, machine.VcpuIds.Count, obstacle is null, obstacle?.ToString())
    {
    }

    /// <summary>Its name.</summary>
    public string? VMName { get; }

    /// <summary>The process that runs it.</summary>
    public int ProcessId { get; }

    /// <summary>The process and its descriptor of the VM: unique among the VMs of this host.</summary>
    public string? VMId { get; }

    /// <summary>The program that runs it.</summary>
    public string? Vmm { get; }

    /// <summary>How many vCPUs it has.</summary>
    public int VcpuCount { get; }

    /// <summary>Whether its clocks can be worked on, as far as can be told without trying.</summary>
    public bool CanAttach { get; }

    /// <summary>Why they cannot, and what to do about it.</summary>
    public string? Reason { get; }
}
