using KvmTsc.Interop;
using KvmTsc.Machines;
using KvmTsc.Processes;

namespace KvmTsc.Discovery;

/// <summary>A VM of a process, as its descriptors show it.</summary>
/// <param name="Descriptor">The VM's descriptor.</param>
/// <param name="VcpuDescriptors">Every descriptor of its vCPUs by vCPU id, duplicates included, as far as they are certain.</param>
/// <param name="VcpuIds">Its vCPUs, ascending.</param>
/// <param name="Debugfs">Its directory in debugfs.</param>
/// <param name="IsDoubtful">Whether it may have other or further vCPU descriptors.</param>
/// <param name="IsByOrder">Whether only the order of the descriptors tells which are its own.</param>
internal sealed record FoundVM(
    int Descriptor,
    IReadOnlyDictionary<int, IReadOnlyList<int>> VcpuDescriptors,
    IReadOnlyList<int> VcpuIds,
    VMDebugfs? Debugfs,
    bool IsDoubtful,
    bool IsByOrder);

/// <summary>Tells the VMs of a process apart.</summary>
internal static class ProcessVMs
{
    /// <summary>The VMs that a process owns.</summary>
    /// <param name="processId">The process.</param>
    /// <param name="parentId">Its parent, whose descriptors it has until it executes a program of its own.</param>
    /// <param name="descriptors">KVM's descriptors in the process, ascending.</param>
    /// <param name="debugfs">What debugfs shows.</param>
    public static IReadOnlyList<FoundVM> Find(int processId, int parentId, IReadOnlyList<KvmDescriptor> descriptors, DebugfsIndex debugfs)
    {
        var threads = new Lazy<IReadOnlySet<int>>(() => NumberedDirectory.Read($"/proc/{processId}/task").ToHashSet());
        var vms = Distinct(processId, descriptors.Where(descriptor => descriptor.IsVM))
            .Where(vm => LibC.IsSameFile(processId, vm[0], parentId, vm[0]) != true)
            .ToDictionary(vm => vm[0], vm => debugfs.Find(threads.Value, vm));
        if (vms.Count == 0)
            return [];

        var vcpus = descriptors
            .Where(descriptor => !descriptor.IsVM)
            .GroupBy(descriptor => descriptor.VcpuId!.Value)
            .SelectMany(sameId => Distinct(processId, sameId).Select(numbers => (Vcpu: new KvmDescriptor(numbers[0], sameId.Key), Numbers: numbers)))
            .ToDictionary(vcpu => vcpu.Vcpu, vcpu => vcpu.Numbers);
        return Find(processId, vms, vcpus);
    }

    private static FoundVM[] Find(int processId, Dictionary<int, VMDebugfs?> vms, Dictionary<KvmDescriptor, List<int>> vcpus)
    {
        var known = vms.ToDictionary(vm => vm.Key, vm => (IReadOnlyCollection<int>?)vm.Value?.ReadVcpuIds());
        var proven = vms.Count > 1 ? FindProven(processId, vms, known, vcpus) : [];
        var assignment = new DescriptorAssignment(known, vcpus.Keys, proven);
        return
        [
            .. vms.Select(vm => new FoundVM(
                vm.Key,
                assignment.VcpusOf(vm.Key).ToDictionary(vcpu => vcpu.Key, vcpu => (IReadOnlyList<int>)vcpus[new KvmDescriptor(vcpu.Value, vcpu.Key)]),
                [.. (known[vm.Key] ?? assignment.VcpusOf(vm.Key).Keys).Order()],
                vm.Value,
                assignment.IsDoubtful(vm.Key),
                assignment.IsByOrder(vm.Key))),
        ];
    }

    /// <summary>The descriptors of which debugfs and a waiting thread together tell the VM.</summary>
    private static Dictionary<int, int> FindProven(
        int processId, Dictionary<int, VMDebugfs?> vms, Dictionary<int, IReadOnlyCollection<int>?> known, Dictionary<KvmDescriptor, List<int>> vcpus)
    {
        var proven = new Dictionary<int, int>();
        foreach (var (vm, debugfs) in vms)
        foreach (var id in known[vm] ?? [])
        {
            if (debugfs!.ReadThread(id) is > 0 and var thread
                && SystemCall.Read(processId, thread)?.RunDescriptor is { } number
                && vcpus.FirstOrDefault(vcpu => vcpu.Key.VcpuId == id && vcpu.Value.Contains(number)) is { Value: not null } vcpu)
                proven.TryAdd(vcpu.Key.Number, vm);
        }

        return proven;
    }

    /// <summary>Groups descriptors of one open file, in the order of the descriptors: what was duplicated is one VM or vCPU.</summary>
    private static List<List<int>> Distinct(int processId, IEnumerable<KvmDescriptor> descriptors)
    {
        var groups = new List<List<int>>();
        foreach (var (number, _) in descriptors)
        {
            if (groups.Find(group => LibC.IsSameFile(processId, group[0], processId, number) == true) is { } same)
                same.Add(number);
            else
                groups.Add([number]);
        }

        return groups;
    }
}
