using System.Management.Automation;
using KvmTsc.Machines;

namespace KvmTsc.PowerShell.Commands;

/// <summary>
/// A command that gives each vCPU a value. The values of a whole pipeline are gathered, then each VM gets its own in one go: all or none.
/// </summary>
public abstract class VcpuSetCommand<T> : VcpuCommand where T : notnull
{
    private readonly Dictionary<string, Dictionary<int, T>> _values = [];
    private readonly HashSet<string> _contradicted = [];

    /// <summary>Writes the values, read back.</summary>
    [Parameter]
    public SwitchParameter PassThru { get; set; }

    /// <summary>The value that the pipeline gives now.</summary>
    protected abstract T Value { get; }

    /// <summary>The question that is asked before: what changes from what to what.</summary>
    protected abstract string Question(Machine machine, IReadOnlyDictionary<int, T> values);

    /// <summary>Sets the values; returns what reads back.</summary>
    protected abstract IEnumerable<object> Set(Machine machine, IReadOnlyDictionary<int, T> values);

    /// <inheritdoc/>
    protected sealed override void Gather(Machine machine, IReadOnlyList<int> vcpuIds)
    {
        if (!_values.TryGetValue(machine.Identity.Id, out var values))
            _values.Add(machine.Identity.Id, values = []);
        foreach (var id in vcpuIds)
        {
            if (values.TryGetValue(id, out var earlier) && !earlier.Equals(Value))
            {
                _contradicted.Add(machine.Identity.Id);
                throw Contradiction(machine, id, earlier);
            }

            values[id] = Value;
        }
    }

    /// <inheritdoc/>
    protected sealed override void Process(Machine machine, IReadOnlyCollection<int> vcpuIds)
    {
        if (_contradicted.Contains(machine.Identity.Id))
            return;
        var values = _values[machine.Identity.Id];
        if (!ShouldProcess($"vCPU {VcpuRange.Format([.. vcpuIds])} of {machine.Identity}", Question(machine, values)))
            return;
        var readBack = Set(machine, values);
        if (PassThru)
            WriteObject(readBack, enumerateCollection: true);
    }

    private KvmException Contradiction(Machine machine, int vcpuId, T earlier) => new(
        KvmErrorId.InvalidValue,
        $"vCPU {vcpuId} of {machine.Identity.Name} is given both {earlier} and {Value}.",
        "Give each vCPU one value: name the vCPUs with -VcpuId.")
    {
        VcpuId = vcpuId,
    };
}
