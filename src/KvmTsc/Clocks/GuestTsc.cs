using KvmTsc.Arithmetic;
using KvmTsc.Execution;
using KvmTsc.Machines;

namespace KvmTsc.Clocks;

/// <summary>Reads and sets TSC offsets and frequencies of a VM's vCPUs.</summary>
public static class GuestTsc
{
    /// <summary>Reads the offsets of some vCPUs, null for all: step 2 of the algorithm.</summary>
    public static IReadOnlyList<KvmVcpuTscOffset> ReadOffsets(Machine machine, IReadOnlyCollection<int>? vcpuIds, CancellationToken cancellationToken)
    {
        var batch = new IoctlBatch();
        var slots = machine.SelectVcpus(vcpuIds).Select(id => (Id: id, Offset: batch.GetOffset(id))).ToArray();
        var stopped = machine.RunStopped(batch, cancellationToken);
        return [.. slots.Select(slot => new KvmVcpuTscOffset(machine.Identity, slot.Id, unchecked((long)batch.Read(slot.Offset)), stopped))];
    }

    /// <summary>The same without stopping the VM: as debugfs shows them, one vCPU after the other. Null where it does not.</summary>
    public static IReadOnlyList<KvmVcpuTscOffset>? FindShownOffsets(Machine machine, IReadOnlyCollection<int>? vcpuIds) =>
        machine.ShownOffsets(machine.SelectVcpus(vcpuIds)) is { } offsets
            ? [.. offsets.Select(vcpu => new KvmVcpuTscOffset(machine.Identity, vcpu.Key, vcpu.Value, 0, KvmOffsetSource.Debugfs))]
            : null;

    /// <summary>The same where nothing else will do.</summary>
    /// <exception cref="KvmException">Debugfs cannot be read, or does not show the VM.</exception>
    public static IReadOnlyList<KvmVcpuTscOffset> ReadShownOffsets(Machine machine, IReadOnlyCollection<int>? vcpuIds) =>
        FindShownOffsets(machine, vcpuIds) ?? throw NotShown(machine);

    /// <summary>
    /// Writes offsets: step 7 of the algorithm. All are written and read back in one go, or none.
    /// </summary>
    /// <param name="machine">The VM.</param>
    /// <param name="offsets">By vCPU.</param>
    /// <param name="force">Lets the vCPUs' offsets differ, which turns KVM's master clock off.</param>
    /// <param name="cancellationToken">Ends waiting for the VM.</param>
    /// <returns>The offsets, read back.</returns>
    public static IReadOnlyList<KvmVcpuTscOffset> SetOffsets(
        Machine machine, IReadOnlyDictionary<int, long> offsets, bool force, CancellationToken cancellationToken)
    {
        var ids = VcpusOf(machine, offsets);
        var reading = TscSnapshot.Of(machine);
        var stopped = reading.WhileStopped(
            stop =>
            {
                var before = reading.Run(stop);
                if (!force)
                    RefuseWrites(machine, before, offsets);
                var batch = new IoctlBatch();
                AddWrites(machine, batch, before, WritesOf(before, offsets));
                stop.RunOrThrow(batch, machine.Identity.Name);
            },
            cancellationToken);
        return [.. ids.Select(id => new KvmVcpuTscOffset(machine.Identity, id, offsets[id], stopped))];
    }

    /// <summary>What <see cref="SetOffsets"/> would change, refused where it would be: the offsets as they are now.</summary>
    /// <exception cref="KvmException"><see cref="SetOffsets"/> would fail.</exception>
    public static IReadOnlyList<KvmVcpuTscOffset> PreviewOffsets(
        Machine machine, IReadOnlyDictionary<int, long> offsets, bool force, CancellationToken cancellationToken)
    {
        var ids = VcpusOf(machine, offsets);
        var (before, stopped) = TscSnapshot.Of(machine).Take(cancellationToken);
        if (!force)
            RefuseWrites(machine, before, offsets);
        return [.. ids.Select(id => new KvmVcpuTscOffset(machine.Identity, id, unchecked((long)before.Vcpus[id].Offset), stopped))];
    }

    /// <summary>Reads the frequencies of some vCPUs, null for all: step 3 of the algorithm.</summary>
    public static IReadOnlyList<KvmTscFrequency> ReadFrequencies(Machine machine, IReadOnlyCollection<int>? vcpuIds, CancellationToken cancellationToken)
    {
        var batch = new IoctlBatch();
        var slots = machine.SelectVcpus(vcpuIds).Select(id => (Id: id, KHz: batch.GetTscKHz(id))).ToArray();
        var stopped = machine.RunStopped(batch, cancellationToken);
        return [.. slots.Select(slot => Frequency(machine, slot.Id, (uint)batch.Read(slot.KHz), stopped))];
    }

    /// <summary>
    /// Sets frequencies, all or none. The guest's TSC moves when the ratio changes: that of a guest that has run is held where it was by another offset, for
    /// others set offsets after frequencies.
    /// </summary>
    /// <param name="machine">The VM.</param>
    /// <param name="frequencies">In kHz, by vCPU.</param>
    /// <param name="force">Takes a frequency that KVM can only chase in software.</param>
    /// <param name="cancellationToken">Ends waiting for the VM.</param>
    /// <returns>The frequencies, read back.</returns>
    public static IReadOnlyList<KvmTscFrequency> SetFrequencies(
        Machine machine, IReadOnlyDictionary<int, uint> frequencies, bool force, CancellationToken cancellationToken)
    {
        var ids = VcpusOf(machine, frequencies);
        RefuseUnsupported(machine, frequencies.Values, force);
        var reading = TscSnapshot.Of(machine);
        var batch = new IoctlBatch();
        var (slots, stopped) = reading.WhileStopped(
            stop =>
            {
                var before = reading.Run(stop);
                AddWrites(batch, machine.HostTsc, before, ids.Select(id => (id, frequencies[id])));
                if (machine.GuestHasRun)
                    HoldTscs(machine, batch, before, frequencies);
                var readBack = ids.Select(id => (Id: id, KHz: batch.GetTscKHz(id))).ToArray();
                stop.RunOrThrow(batch, machine.Identity.Name);
                return readBack;
            },
            cancellationToken);
        return [.. slots.Select(slot => Frequency(machine, slot.Id, (uint)batch.Read(slot.KHz), stopped))];
    }

    /// <summary>What <see cref="SetFrequencies"/> would change, refused where it would be: the frequencies as they are now.</summary>
    /// <exception cref="KvmException"><see cref="SetFrequencies"/> would fail.</exception>
    public static IReadOnlyList<KvmTscFrequency> PreviewFrequencies(
        Machine machine, IReadOnlyDictionary<int, uint> frequencies, bool force, CancellationToken cancellationToken)
    {
        RefuseUnsupported(machine, frequencies.Values, force);
        return ReadFrequencies(machine, VcpusOf(machine, frequencies), cancellationToken);
    }

    private static KvmException NotShown(Machine machine) => new(
        KvmErrorId.DebugfsUnavailable,
        $"Debugfs does not show the TSC offsets of {machine.Identity.Name}: it cannot be read, or a guest runs a guest of its own.",
        "Run as root, outside containers, with debugfs mounted (mount -t debugfs none /sys/kernel/debug), or read them with a stop, without -NoStop.");

    private static IReadOnlyList<int> VcpusOf<T>(Machine machine, IReadOnlyDictionary<int, T> values) => values.Count > 0
        ? machine.SelectVcpus([.. values.Keys])
        : throw new KvmException(KvmErrorId.InvalidValue, $"No vCPU of {machine.Identity.Name} was given a value.", "Name the vCPUs, and what each is to have.");

    /// <summary>
    /// What has to be written for some vCPUs to have these offsets. Where all are equal then, that is all of them: KVM turns its master
    /// clock on only when every vCPU was written.
    /// </summary>
    private static (int VcpuId, ulong Offset)[] WritesOf(TscSnapshot before, IReadOnlyDictionary<int, long> offsets)
    {
        var after = before.Vcpus
            .Select(vcpu => (VcpuId: vcpu.Key, Offset: offsets.TryGetValue(vcpu.Key, out var offset) ? unchecked((ulong)offset) : vcpu.Value.Offset))
            .ToArray();
        return after.All(vcpu => vcpu.Offset == after[0].Offset) ? after : [.. after.Where(vcpu => offsets.ContainsKey(vcpu.VcpuId))];
    }

    /// <summary>Adds writes of offsets with their undoing, across which kvmclock goes on as it did.</summary>
    internal static void AddWrites(Machine machine, IoctlBatch batch, TscSnapshot before, IReadOnlyCollection<(int VcpuId, ulong Offset)> writes)
    {
        TscUndo.OffsetsOf(batch, batch.Steps.Count + 1, before);
        AddWrites(batch, writes.Select(vcpu => (vcpu.VcpuId, batch.Reserve(vcpu.Offset))));
        if (before.HasTriple)
            batch.KeepClock(before.Clock, AreInStep(before, writes), machine.HostTsc.KHz);
        batch.SettleVcpus(writes.Select(vcpu => vcpu.VcpuId));
    }

    /// <summary>Adds writes of offsets, each read back and compared.</summary>
    internal static void AddWrites(IoctlBatch batch, IEnumerable<(int VcpuId, Slot<ulong> Offset)> offsets)
    {
        var written = offsets.ToArray();
        foreach (var (id, offset) in written)
            batch.SetOffset(id, offset);
        foreach (var (id, offset) in written)
            batch.ExpectEqual(id, batch.GetOffset(id), offset);
    }

    /// <summary>Adds writes of those frequencies that are not what they are already, with their undoing.</summary>
    internal static void AddWrites(IoctlBatch batch, HostTscTraits hostTsc, TscSnapshot before, IEnumerable<(int VcpuId, uint KHz)> frequencies)
    {
        foreach (var (id, kHz) in frequencies.Where(vcpu => vcpu.KHz != before.Vcpus[vcpu.VcpuId].KHz))
        {
            TscUndo.FrequencyOf(batch, batch.Steps.Count, id, before);
            if (hostTsc.NeedsCatchUp(kHz))
                batch.AddLasting($"KVM goes on to push the TSC of vCPU {id} forward at every exit, for as long as the VM lives");
            batch.SetTscKHz(id, kHz);
        }
    }

    /// <summary>
    /// Has the TSC of vCPUs whose ratio changes go on from where it stands. A frequency alone would move it by all that the host's TSC has counted times what
    /// the ratio changes by, and leave the guest's kvmclock page as it is for up to five minutes: setting kvmclock has KVM look at it.
    /// </summary>
    private static void HoldTscs(Machine machine, IoctlBatch batch, TscSnapshot before, IReadOnlyDictionary<int, uint> frequencies)
    {
        var hostTsc = machine.InstantOf(before.Clock).HostTsc;
        var writes = new List<(int VcpuId, ulong Offset)>();
        foreach (var (id, kHz) in frequencies)
        {
            var (offset, old) = before.Vcpus[id];
            var (oldRatio, newRatio) = (machine.HostTsc.RatioAt(old), machine.HostTsc.RatioAt(kHz));
            if (oldRatio != newRatio)
                writes.Add((id, unchecked(TscArithmetic.GuestTsc(hostTsc, oldRatio, offset) - newRatio.Apply(hostTsc))));
        }

        if (writes.Count > 0)
            AddWrites(machine, batch, before, writes);
    }

    /// <summary>Whether every vCPU is written, and with one offset, so that KVM has its master clock on.</summary>
    private static bool AreInStep(TscSnapshot before, IReadOnlyCollection<(int VcpuId, ulong Offset)> writes) =>
        writes.Count == before.Vcpus.Count && writes.Select(vcpu => vcpu.Offset).Distinct().Count() == 1;

    /// <summary>Refuses what KVM would refuse, and what it would only pretend to do.</summary>
    internal static void RefuseUnsupported(Machine machine, IEnumerable<uint> frequencies, bool force)
    {
        foreach (var kHz in frequencies.Distinct())
            RefuseUnsupported(machine, kHz, force);
    }

    private static void RefuseUnsupported(Machine machine, uint kHz, bool force)
    {
        if (kHz == 0)
        {
            throw new KvmException(
                KvmErrorId.FrequencyUnsupported, "A TSC of 0 kHz does not exist.", $"Give the frequency in kHz; the host's is {machine.HostTsc.KHz}.");
        }

        _ = machine.HostTsc.RatioFor(kHz);
        RefuseChased(machine, kHz, force);
    }

    /// <summary>Refuses a frequency that KVM only chases: it changes the offset of every vCPU by itself then, all the time.</summary>
    internal static void RefuseChased(Machine machine, uint kHz, bool force)
    {
        if (force || !machine.HostTsc.NeedsCatchUp(kHz))
            return;
        throw new KvmException(
            KvmErrorId.FrequencyUnsupported,
            $"A guest TSC of {kHz} kHz is faster than the host's {machine.HostTsc.KHz} kHz, and the CPU has no TSC scaling: KVM only pushes the TSC forward at every exit, for as long as the VM lives.",
            "Use a host with TSC scaling (tsc_scale in /proc/cpuinfo). Use -Force to have it all the same.");
    }

    private static void RefuseWrites(Machine machine, TscSnapshot before, IReadOnlyDictionary<int, long> offsets)
    {
        RefuseUnequal(machine, before, offsets);
        RefuseBackwards(machine, before, offsets);
    }

    private static void RefuseBackwards(Machine machine, TscSnapshot before, IReadOnlyDictionary<int, long> offsets)
    {
        foreach (var (id, offset) in offsets)
            RefuseBackwards(machine, id, TscArithmetic.Distance(before.Vcpus[id].Offset, unchecked((ulong)offset)));
    }

    /// <summary>Refuses to take the TSC of a guest that has run back.</summary>
    internal static void RefuseBackwards(Machine machine, int vcpuId, long stepTicks)
    {
        if (stepTicks >= 0 || !machine.GuestHasRun)
            return;
        throw new KvmException(
            KvmErrorId.GuestTscBackwards,
            $"The guest TSC of vCPU {vcpuId} of {machine.Identity.Name} would go back by {-(Int128)stepTicks} ticks.",
            "A guest that runs sees time go backwards then. Use -Force if that is meant.")
        {
            VcpuId = vcpuId,
        };
    }

    private static KvmTscFrequency Frequency(Machine machine, int vcpuId, uint kHz, double stoppedMicroseconds) => new(
        machine.Identity, vcpuId, kHz, machine.HostTsc.KHz, machine.RatioOf(vcpuId, kHz), stoppedMicroseconds);

    private static void RefuseUnequal(Machine machine, TscSnapshot before, IReadOnlyDictionary<int, long> offsets)
    {
        var result = before.Vcpus
            .Select(vcpu => offsets.TryGetValue(vcpu.Key, out var offset) ? offset : unchecked((long)vcpu.Value.Offset))
            .Distinct()
            .Count();
        if (result > 1)
        {
            throw new KvmException(
                KvmErrorId.UnequalOffsets,
                $"The vCPUs of {machine.Identity.Name} would have {result} different TSC offsets. KVM turns its master clock off then: the guest's clock is slow or unstable, and cannot be migrated.",
                "Write the same offset to all vCPUs (name none of them). Use -Force if they are meant to differ.");
        }
    }
}
