using System.Globalization;

namespace KvmTsc.Machines;

/// <summary>Which VM of this host.</summary>
/// <param name="Name">Its name.</param>
/// <param name="ProcessId">The process that runs it.</param>
/// <param name="Id">The process and its descriptor of the VM, "4711:12": unique among the VMs of this host.</param>
public sealed record VMIdentity(string Name, int ProcessId, string Id)
{
    /// <summary>The name that it has where another VM has the same, "web01:4711".</summary>
    public string NameWithProcess => WithProcess(Name, ProcessId);

    /// <summary>Whether a name is its own, with or without the process.</summary>
    public bool IsNamed(string name) => IsSame(name, Name) || IsSame(name, NameWithProcess) || IsSame(WithProcess(name, ProcessId), Name);

    /// <summary>Name and process, for messages.</summary>
    public override string ToString() => $"{Name} (process {ProcessId})";

    internal static string WithProcess(string name, int processId) => string.Create(CultureInfo.InvariantCulture, $"{name}:{processId}");

    private static bool IsSame(string name, string other) => string.Equals(name, other, StringComparison.OrdinalIgnoreCase);
}
