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
        var files = OpenFile.Of(processId, descriptors);
        var owned = files.FindAll(file => file.First.IsVM && LibC.IsSameFile(processId, file.First.Number, parentId, file.First.Number) != true);
        if (owned.Count == 0)
            return [];

        var threads = NumberedDirectory.Read($"/proc/{processId}/task");
        var vms = new Dictionary<int, VMDebugfs?>();
        foreach (var vm in owned)
            vms.Add(vm.First.Number, debugfs.Find(threads, vm.Numbers));
        return Find(processId, vms, files.FindAll(file => !file.First.IsVM));
    }

    private static List<FoundVM> Find(int processId, Dictionary<int, VMDebugfs?> vms, List<OpenFile> vcpus)
    {
        var known = new Dictionary<int, IReadOnlyList<int>?>();
        foreach (var (vm, debugfs) in vms)
            known.Add(vm, debugfs?.ReadVcpuIds());
        var proven = vms.Count > 1 ? FindProven(processId, vms, known, vcpus) : [];
        var assignment = new DescriptorAssignment(known, vcpus.ConvertAll(vcpu => vcpu.First), proven);

        var numbers = new Dictionary<int, IReadOnlyList<int>>();
        foreach (var vcpu in vcpus)
            numbers.Add(vcpu.First.Number, vcpu.Numbers);
        var found = new List<FoundVM>();
        foreach (var (vm, debugfs) in vms)
        {
            var descriptors = new Dictionary<int, IReadOnlyList<int>>();
            foreach (var (id, first) in assignment.VcpusOf(vm))
                descriptors.Add(id, numbers[first]);
            var ids = new List<int>(known[vm] ?? (IEnumerable<int>)descriptors.Keys);
            ids.Sort();
            found.Add(new FoundVM(vm, descriptors, ids, debugfs, assignment.IsDoubtful(vm), assignment.IsByOrder(vm)));
        }

        return found;
    }

    /// <summary>The descriptors of which debugfs and a waiting thread together tell the VM.</summary>
    private static Dictionary<int, int> FindProven(
        int processId, Dictionary<int, VMDebugfs?> vms, Dictionary<int, IReadOnlyList<int>?> known, List<OpenFile> vcpus)
    {
        var proven = new Dictionary<int, int>();
        foreach (var (vm, debugfs) in vms)
        foreach (var id in known[vm] ?? [])
        {
            if (debugfs!.ReadThread(id) is > 0 and var thread
                && SystemCall.Read(processId, thread)?.RunDescriptor is { } number
                && vcpus.Find(vcpu => vcpu.First.VcpuId == id && vcpu.Numbers.Contains(number)) is { } vcpu)
                proven.TryAdd(vcpu.First.Number, vm);
        }

        return proven;
    }

    /// <summary>A VM or a vCPU, by all descriptors of the process that are of it, ascending: it may have duplicated one.</summary>
    private sealed record OpenFile(KvmDescriptor First, List<int> Numbers)
    {
        /// <summary>Those of a process, in the order of their descriptors. Only what has the same name can be the same.</summary>
        public static List<OpenFile> Of(int processId, IReadOnlyList<KvmDescriptor> descriptors)
        {
            const int NoVcpu = -1;
            var files = new List<OpenFile>();
            var byVcpu = new Dictionary<int, List<OpenFile>>();
            foreach (var descriptor in descriptors)
            {
                var id = descriptor.VcpuId ?? NoVcpu;
                if (!byVcpu.TryGetValue(id, out var namesakes))
                    byVcpu.Add(id, namesakes = []);
                if (namesakes.Find(other => LibC.IsSameFile(processId, other.First.Number, processId, descriptor.Number) == true) is { } same)
                {
                    same.Numbers.Add(descriptor.Number);
                    continue;
                }

                var file = new OpenFile(descriptor, [descriptor.Number]);
                namesakes.Add(file);
                files.Add(file);
            }

            return files;
        }
    }
}
