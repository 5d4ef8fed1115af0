namespace KvmTsc.Machines;

/// <summary>A VM on this host, as it was when it was looked at.</summary>
public sealed class KvmVM
{
    /// <summary>Creates a value.</summary>
    public KvmVM(string? vmName, int processId, string? vmId, string? vmm, int vcpuCount)
    {
        VMName = vmName;
        ProcessId = processId;
        VMId = vmId;
        Vmm = vmm;
        VcpuCount = vcpuCount;
    }

    /// <summary>Describes a machine.</summary>
    public KvmVM(Machine machine) : this(
        machine.Identity.Name, machine.Identity.ProcessId, machine.Identity.Id, machine.Vmm, machine.VcpuIds.Count)
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
}
