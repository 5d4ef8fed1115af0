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
    private readonly Dictionary<int, Dictionary<int, int>> _assigned = [];
    private readonly HashSet<int> _doubtful = [];
    private readonly HashSet<int> _byOrder = [];

    /// <summary>Decides.</summary>
    /// <param name="vms">A VM's descriptor, and its vCPUs where they are known.</param>
    /// <param name="vcpus">The vCPU descriptors, each vCPU once, ascending.</param>
    /// <param name="proven">The VMs of vCPU descriptors that are known.</param>
    public DescriptorAssignment(
        IReadOnlyDictionary<int, IReadOnlyList<int>?> vms, IReadOnlyList<KvmDescriptor> vcpus, IReadOnlyDictionary<int, int> proven)
    {
        foreach (var vm in vms.Keys)
            _assigned.Add(vm, []);
        var byId = new Dictionary<int, List<int>>();
        foreach (var (number, id) in vcpus)
        {
            if (!byId.TryGetValue(id!.Value, out var numbers))
                byId.Add(id.Value, numbers = []);
            numbers.Add(number);
        }

        foreach (var (id, numbers) in byId)
            Assign(id, numbers, vms, proven);
        foreach (var (vm, ids) in vms)
        {
            if (ids is not null && !ids.All(_assigned[vm].ContainsKey))
                _doubtful.Add(vm);
        }
    }

    /// <summary>A VM's vCPU descriptors by vCPU id, as far as they are certain.</summary>
    public IReadOnlyDictionary<int, int> VcpusOf(int vm) => _assigned[vm];

    /// <summary>Whether a VM may have other or further vCPU descriptors.</summary>
    public bool IsDoubtful(int vm) => _doubtful.Contains(vm);

    /// <summary>Whether only the order of the descriptors tells which are a VM's.</summary>
    public bool IsByOrder(int vm) => _byOrder.Contains(vm);

    private void Assign(
        int vcpuId, List<int> descriptors, IReadOnlyDictionary<int, IReadOnlyList<int>?> vms, IReadOnlyDictionary<int, int> proven)
    {
        var open = new List<int>();
        foreach (var descriptor in descriptors)
        {
            if (proven.TryGetValue(descriptor, out var owner))
                Assign(owner, vcpuId, descriptor);
            else
                open.Add(descriptor);
        }

        var free = new List<int>();
        foreach (var (vm, ids) in vms)
        {
            if (!_assigned[vm].ContainsKey(vcpuId) && ids?.Contains(vcpuId) != false)
                free.Add(vm);
        }

        if (free.Count > 1 && open.Count > 0)
            _byOrder.UnionWith(free);
        // Ascending, so that what the first can be of, all the others can be of as well: one that has a choice leaves it to all that follow.
        foreach (var descriptor in open)
        {
            var candidates = vms.Count == 1 ? [.. free] : free.FindAll(vm => vm < descriptor);
            if (candidates is not [var vm])
            {
                _doubtful.UnionWith(candidates.Count > 0 ? candidates : vms.Keys);
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
