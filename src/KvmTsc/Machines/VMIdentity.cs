namespace KvmTsc.Machines;

/// <summary>Which VM of this host.</summary>
/// <param name="Name">Its name.</param>
/// <param name="ProcessId">The process that runs it.</param>
/// <param name="Id">The process and its descriptor of the VM, "4711:12": unique among the VMs of this host.</param>
public sealed record VMIdentity(string Name, int ProcessId, string Id)
{
    /// <summary>Name and process, for messages.</summary>
    public override string ToString() => $"{Name} (process {ProcessId})";
}
