using System.Management.Automation;
using KvmTsc.Machines;
using KvmTsc.PowerShell.Completion;

namespace KvmTsc.PowerShell.Commands;

/// <summary>
/// A command on vCPUs. It gathers what the pipeline names, so that each VM is worked on once, as a whole.
/// </summary>
public abstract class VcpuCommand : VMCommand
{
    private readonly Dictionary<string, (Machine Machine, SortedSet<int> VcpuIds)> _selected = [];

    /// <summary>vCPUs, all if none are given.</summary>
    [Parameter(ValueFromPipelineByPropertyName = true)]
    [ValidateRange(0, int.MaxValue)]
    [ArgumentCompleter(typeof(VcpuIdCompleter))]
    public int[] VcpuId { get; set; } = [];

    /// <summary>Does the command's work for some vCPUs of one VM.</summary>
    protected abstract void Process(Machine machine, IReadOnlyCollection<int> vcpuIds);

    /// <summary>Notes what the pipeline says of vCPUs of a VM.</summary>
    protected virtual void Gather(Machine machine, IReadOnlyList<int> vcpuIds)
    {
    }

    /// <inheritdoc/>
    protected sealed override void Process(Machine machine)
    {
        if (!_selected.TryGetValue(machine.Identity.Id, out var selected))
            _selected.Add(machine.Identity.Id, selected = (machine, []));
        var vcpuIds = machine.SelectVcpus(VcpuId);
        selected.VcpuIds.UnionWith(vcpuIds);
        Gather(machine, vcpuIds);
    }

    /// <inheritdoc/>
    protected override void EndProcessing()
    {
        foreach (var (machine, vcpuIds) in _selected.Values.Where(selected => selected.VcpuIds.Count > 0))
            For(machine.Identity.Name, () => Process(machine, vcpuIds));
    }
}
