using System.Globalization;
using KvmTsc.Interop;
using KvmTsc.Machines;
using KvmTsc.Processes;

namespace KvmTsc.Discovery;

/// <summary>
/// Finds the VMs of other processes. A process that runs VMs has descriptors of them, which procfs shows as <c>anon_inode:kvm-vm</c> and
/// <c>anon_inode:kvm-vcpu:N</c>; whether it is QEMU or another VMM only matters for the names.
/// </summary>
public static class VMDiscovery
{
    private const int Looks = 5;

    /// <summary>The VMs of every other process that may be looked at, by process. Those that share a name have it with their process.</summary>
    public static IReadOnlyList<Machine> All()
    {
        var debugfs = DebugfsIndex.Open();
        var machines = new List<ProcessMachine>();
        foreach (var id in Processes())
            machines.AddRange(Find(id, debugfs));
        var bearers = machines.ToLookup(machine => machine.Identity.Name, StringComparer.OrdinalIgnoreCase);
        return [.. machines.Select(machine => bearers[machine.Identity.Name].Count() > 1 ? machine.Named(machine.Identity.NameWithProcess) : machine)];
    }

    /// <summary>The processes whose programs are known VMMs, and which may not be looked at: VMs that <see cref="All"/> does not have.</summary>
    public static IReadOnlyList<int> Unseen() => Processes().FindAll(id => !MayBeLookedAt(id) && VmmCommandLine.Read(id) is { IsKnown: true });

    /// <summary>The VMs of one other process, none if there is no such process.</summary>
    /// <exception cref="KvmException">It may not be looked at.</exception>
    public static IReadOnlyList<Machine> Of(int processId)
    {
        if (processId == Environment.ProcessId)
            return [];
        if (!MayBeLookedAt(processId))
            throw Forbidden(processId);
        return [.. Find(processId, DebugfsIndex.Open())];
    }

    /// <summary>The same, none of a process that has ended or may not be looked at either.</summary>
    internal static IEnumerable<ProcessMachine> Seen(int processId)
    {
        try
        {
            return processId > 0 ? Of(processId).OfType<ProcessMachine>() : [];
        }
        catch (KvmException)
        {
            return [];
        }
    }

    private static IEnumerable<ProcessMachine> Find(int processId, DebugfsIndex debugfs)
    {
        // Nearly no process has any, so this comes first. The list is the process's for as long as it lives, whoever has its number then.
        using var list = DescriptorList.Open(processId);
        if (list is null || !list.Read().Any(descriptor => descriptor.IsVM) || ProcessStat.Read($"/proc/{processId}") is not { } stat)
            return [];
        var vms = FindSettled(processId, stat.ParentId, list, debugfs);
        return VmmCommandLine.Read(processId) is { } commandLine && list.IsAlive
            ? vms.Select(vm => Describe(processId, stat, vm, vms.Count == 1, commandLine))
            : [];
    }

    private static List<int> Processes()
    {
        var processes = NumberedDirectory.Read("/proc");
        processes.Remove(Environment.ProcessId);
        processes.Sort();
        return processes;
    }

    /// <summary>What a VMM is just creating may be there for one look and not for the next: where that leaves doubt, another look follows.</summary>
    private static IReadOnlyList<FoundVM> FindSettled(int processId, int parentId, DescriptorList list, DebugfsIndex debugfs)
    {
        for (var look = 1; ; look++)
        {
            var vms = ProcessVMs.Find(processId, parentId, look == 1 ? list.Last : list.Read(), debugfs);
            if (look == Looks || !vms.Any(vm => vm.IsDoubtful))
                return vms;
        }
    }

    /// <summary>
    /// A VM whose VMM is not told its name is called after its program and process. A process that has several gives each of them its descriptor as well.
    /// </summary>
    private static ProcessMachine Describe(int processId, ProcessStat stat, FoundVM vm, bool isOnlyVM, VmmCommandLine commandLine)
    {
        var id = string.Create(CultureInfo.InvariantCulture, $"{processId}:{vm.Descriptor}");
        var name = commandLine.VMName ?? VMIdentity.WithProcess(commandLine.Program, processId);
        var identity = new VMIdentity(isOnlyVM ? name : string.Create(CultureInfo.InvariantCulture, $"{name}:{vm.Descriptor}"), processId, id);
        return new ProcessMachine(identity, commandLine.Vmm, stat.StartTime, vm, isOnlyVM);
    }

    /// <summary>
    /// Whether the kernel lets us follow its descriptors. Their directory does not tell: who has CAP_DAC_READ_SEARCH may open it, and see no
    /// link in it. The environment takes the same rights as the links, and is there to be opened, whatever the process is like.
    /// </summary>
    private static bool MayBeLookedAt(int processId)
    {
        var descriptor = LibC.Open($"/proc/{processId}/environ", LibC.O_CLOEXEC);
        if (descriptor >= 0)
            _ = LibC.Close(descriptor);
        return -descriptor is not (Errno.EACCES or Errno.EPERM);
    }

    private static KvmException Forbidden(int processId) => new(
        KvmErrorId.AttachDenied, $"{CurrentUser.Name} may not look at process {processId}.", "Run as root, or as the user of that process.");
}
