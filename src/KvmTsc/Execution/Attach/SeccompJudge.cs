namespace KvmTsc.Execution.Attach;

/// <summary>
/// Tells of threads of a process whether their seccomp filters let them carry a batch. QEMU's does; one that knows the VMM's own ioctls only (Firecracker,
/// cloud-hypervisor) does not, and is suspended, which ends with us: a death within the work ends the VMM then.
/// </summary>
internal sealed class SeccompJudge(AttachPreparation preparation)
{
    private readonly Dictionary<int, bool> _verdicts = []; // by thread
    private readonly List<(SeccompFilter Filter, bool Forbids)> _known = []; // most threads of a process have the same

    /// <summary>Whether the filter of a thread that stands still has to be suspended for it to carry.</summary>
    public bool Forbids(TracedThread thread)
    {
        if (!preparation.IsFiltered)
            return false;
        if (!_verdicts.TryGetValue(thread.ThreadId, out var forbids))
            _verdicts.Add(thread.ThreadId, forbids = Judge(thread));
        return forbids;
    }

    private bool Judge(TracedThread thread)
    {
        if (SeccompFilter.Of(thread) is not { } filter)
            return true;
        var index = _known.FindIndex(known => known.Filter.Equals(filter));
        if (index >= 0)
            return _known[index].Forbids;
        var forbids = Forbids(filter, preparation);
        _known.Add((filter, forbids));
        return forbids;
    }

    /// <summary>What .NET compiles on first use is compiled then.</summary>
    public static void Rehearse(AttachPreparation preparation)
    {
        const uint Allow = 0x7FFF0000;
        var filter = new SeccompFilter((ClassicBpf.Instruction[])[new(0x20, 0, 0, 0), new(0x15, 0, 1, uint.MaxValue), new(0x06, 0, 0, 0), new(0x06, 0, 0, Allow)]); // all but -1
        _ = Forbids(filter, preparation) || filter.Equals(null);
    }

    private static bool Forbids(SeccompFilter filter, AttachPreparation preparation) =>
        !Carrier.CallsIn(preparation).All(made => filter.Allows(made.Call, made.Address));
}
