namespace KvmTsc.Discovery;

/// <summary>
/// Decides which vCPU descriptors of a process belong to which of its VMs. Procfs does not say: a link names only the vCPU's number.
/// What is known is that a VM has each number once, that debugfs lists a VM's numbers, that a thread in <c>KVM_RUN</c> tells its descriptor
/// and debugfs its VM, and that a process gets ever higher descriptors for what it opens: a vCPU's is higher than its VM's. The last is
/// not certain, since a closed descriptor's number is given out again: it is used only where all else leaves a choice and it leaves none,
/// and what rests on it is marked. Where a choice remains, nothing is decided.
/// </summary>
internal sealed class DescriptorAssignment
{
    private readonly Dictionary<int, Dictionary<int, int>> _assigned;
    private readonly HashSet<int> _doubtful = [];
    private readonly HashSet<int> _byOrder = [];

    /// <summary>Decides.</summary>
    /// <param name="vms">A VM's descriptor, and its vCPUs where they are known.</param>
    /// <param name="vcpus">The vCPU descriptors, each vCPU once.</param>
    /// <param name="proven">The VMs of vCPU descriptors that are known.</param>
    public DescriptorAssignment(
        IReadOnlyDictionary<int, IReadOnlyCollection<int>?> vms, IReadOnlyCollection<KvmDescriptor> vcpus, IReadOnlyDictionary<int, int> proven)
    {
        _assigned = vms.Keys.ToDictionary(vm => vm, _ => new Dictionary<int, int>());
        foreach (var sameId in vcpus.GroupBy(vcpu => vcpu.VcpuId!.Value))
            Assign(sameId.Key, [.. sameId.Select(vcpu => vcpu.Number).Order()], vms, proven);
        _doubtful.UnionWith(vms.Keys.Where(vm => vms[vm]?.Any(id => !_assigned[vm].ContainsKey(id)) ?? false));
    }

    /// <summary>A VM's vCPU descriptors by vCPU id, as far as they are certain.</summary>
    public IReadOnlyDictionary<int, int> VcpusOf(int vm) => _assigned[vm];

    /// <summary>Whether a VM may have other or further vCPU descriptors.</summary>
    public bool IsDoubtful(int vm) => _doubtful.Contains(vm);

    /// <summary>Whether only the order of the descriptors tells which are a VM's.</summary>
    public bool IsByOrder(int vm) => _byOrder.Contains(vm);

    private void Assign(
        int vcpuId, int[] descriptors, IReadOnlyDictionary<int, IReadOnlyCollection<int>?> vms, IReadOnlyDictionary<int, int> proven)
    {
        foreach (var descriptor in descriptors.Where(proven.ContainsKey))
            Assign(proven[descriptor], vcpuId, descriptor);

        var free = vms.Keys.Where(vm => !_assigned[vm].ContainsKey(vcpuId) && (vms[vm]?.Contains(vcpuId) ?? true)).ToList();
        var open = descriptors.Where(descriptor => !proven.ContainsKey(descriptor)).ToArray();
        if (free.Count > 1 && open.Length > 0)
            _byOrder.UnionWith(free);
        // Ascending, so that what the first can be of, all the others can be of as well: one that has a choice leaves it to all that follow.
        foreach (var descriptor in open)
        {
            var candidates = free.Where(vm => vms.Count == 1 || vm < descriptor).ToArray();
            if (candidates is not [var vm])
            {
                _doubtful.UnionWith(candidates.Length > 0 ? candidates : vms.Keys);
                continue;
            }

            free.Remove(vm);
            Assign(vm, vcpuId, descriptor);
        }
    }

    private void Assign(int vm, int vcpuId, int descriptor)
    {
        if (!_assigned[vm].TryAdd(vcpuId, descriptor))
            _doubtful.Add(vm);
    }
}
