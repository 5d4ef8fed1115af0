using KvmTsc.Hosts;

namespace KvmTsc.Local;

/// <summary>The VMs of this process that have been created and not removed.</summary>
public static class LocalMachines
{
    private static readonly Lock s_lock = new();
    private static readonly List<LocalMachine> s_machines = [];

    /// <summary>All of them, in the order of their creation.</summary>
    public static IReadOnlyList<LocalMachine> All
    {
        get
        {
            lock (s_lock)
                return [.. s_machines];
        }
    }

    /// <summary>Creates one under a name that no other has.</summary>
    /// <param name="name">The name, null for the next free one.</param>
    /// <param name="vcpuCount">How many vCPUs it has.</param>
    /// <param name="tscKHz">The guest's TSC frequency, null for the host's.</param>
    /// <exception cref="KvmException">Nothing was created.</exception>
    public static LocalMachine Create(string? name, int vcpuCount, uint? tscKHz)
    {
        using var device = KvmDevice.Open();
        lock (s_lock)
        {
            name ??= FreeName();
            if (s_machines.Exists(machine => HasName(machine, name)))
            {
                throw new KvmException(
                    KvmErrorId.VMNameTaken, $"This process has a VM named {name} already.", $"Choose another name, or remove it: Remove-KvmVM {name}.");
            }

            var machine = LocalMachine.Create(device, name, vcpuCount, tscKHz);
            s_machines.Add(machine);
            return machine;
        }
    }

    /// <summary>Removes one.</summary>
    public static void Remove(LocalMachine machine)
    {
        lock (s_lock)
            s_machines.Remove(machine);
        machine.Dispose();
    }

    /// <summary>Removes all.</summary>
    public static void Clear()
    {
        foreach (var machine in All)
            Remove(machine);
    }

    private static bool HasName(LocalMachine machine, string name) =>
        string.Equals(machine.Identity.Name, name, StringComparison.OrdinalIgnoreCase);

    private static string FreeName() => Enumerable.Range(1, int.MaxValue)
        .Select(number => $"vm{number}")
        .First(name => !s_machines.Exists(machine => HasName(machine, name)));
}
