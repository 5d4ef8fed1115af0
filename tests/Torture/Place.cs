using System.Globalization;
using KvmTsc.Discovery;
using KvmTsc.Execution;
using KvmTsc.Execution.Attach;

namespace KvmTsc.Torture;

/// <summary>Where in a target work is to be done, as one word a line so that another process can be told.</summary>
/// <param name="ProcessId">The target.</param>
/// <param name="HasRun">Whether its VM has run.</param>
/// <param name="KnowsThreads">Whether debugfs may be asked which threads are the vCPUs'.</param>
/// <param name="Terminals">What it has instead of vCPUs; empty if it has a VM.</param>
/// <param name="ThreadDirectory">For those, a directory that says which threads would be the vCPUs', as debugfs does; empty if any could be.</param>
internal sealed record Place(int ProcessId, bool HasRun, bool KnowsThreads, IReadOnlyList<int> Terminals, string ThreadDirectory)
{
    public static Place Parse(string line)
    {
        var words = line.Split('|');
        int[] terminals = words[3].Length == 0 ? [] : [.. words[3].Split(',').Select(word => int.Parse(word, CultureInfo.InvariantCulture))];
        return new Place(int.Parse(words[0], CultureInfo.InvariantCulture), words[1] == "1", words[2] == "1", terminals, words[4]);
    }

    public override string ToString() =>
        string.Create(CultureInfo.InvariantCulture, $"{ProcessId}|{(HasRun ? 1 : 0)}|{(KnowsThreads ? 1 : 0)}|{string.Join(',', Terminals)}|{ThreadDirectory}");

    /// <summary>Finds what to work on.</summary>
    /// <param name="watch">Puts something around the executor.</param>
    public IWork Work(Func<IVMExecutor, IVMExecutor>? watch = null)
    {
        watch ??= executor => executor;
        if (Terminals.Count > 0)
            return new TerminalWork(watch(new AttachedExecutor(TerminalTarget())), Terminals.Count);
        var machine = (ProcessMachine)VMDiscovery.Of(ProcessId).Single();
        return new KvmWork(machine, HasRun, watch(KnowsThreads ? machine.Executor : new AttachedExecutor(machine.Target with { DebugfsDirectory = null })));
    }

    private AttachTarget TerminalTarget() => new(
        ProcessId, StartTime(), "stand-in", Terminals[0], Enumerable.Range(0, Terminals.Count).ToDictionary(id => id, IReadOnlyList<int> (id) => [Terminals[id]]),
        ThreadDirectory.Length == 0 ? null : ThreadDirectory);

    private ulong StartTime()
    {
        const int FieldsBeforeStartTime = 19;
        var stat = File.ReadAllText($"/proc/{ProcessId}/stat");
        return ulong.Parse(stat[(stat.LastIndexOf(')') + 2)..].Split(' ')[FieldsBeforeStartTime], CultureInfo.InvariantCulture);
    }
}
