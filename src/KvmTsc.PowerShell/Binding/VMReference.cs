namespace KvmTsc.PowerShell.Binding;

/// <summary>
/// Names a VM in a parameter: a VM object, any object that carries VMName, ProcessId or VMId (also one that came back from a job, a file or
/// a remote session), or a name.
/// </summary>
public sealed class VMReference
{
    /// <summary>Refers to a VM by what is known of it.</summary>
    public VMReference(string? vmName, int? processId, string? vmId)
    {
        VMName = vmName;
        ProcessId = processId;
        VMId = vmId;
    }

    /// <summary>The VM's name.</summary>
    public string? VMName { get; }

    /// <summary>The process that runs it.</summary>
    public int? ProcessId { get; }

    /// <summary>The VM among those of its host.</summary>
    public string? VMId { get; }

    /// <inheritdoc/>
    public override string ToString() => VMName ?? VMId ?? $"process {ProcessId}";
}
