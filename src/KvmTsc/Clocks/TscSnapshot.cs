using KvmTsc.Execution;
using KvmTsc.Hosts;
using KvmTsc.Interop;
using KvmTsc.Machines;

namespace KvmTsc.Clocks;

/// <summary>The clock of a VM and the offset and frequency of every vCPU, read in one batch.</summary>
internal sealed record TscSnapshot
{
    private TscSnapshot(KvmClockData clock, KvmGuestClocks? guestClocks, IReadOnlyDictionary<int, VcpuValues> vcpus)
    {
        HasMasterClock = clock.HasTriple;
        Clock = clock;
        GuestClocks = guestClocks;
        Vcpus = vcpus;
    }

    /// <summary>Offset and frequency of a vCPU.</summary>
    public readonly record struct VcpuValues(ulong Offset, uint KHz);

    public KvmClockData Clock { get; private init; }

    /// <summary>The clocks that the guest takes from KVM, null where they were not asked for.</summary>
    public KvmGuestClocks? GuestClocks { get; init; }

    /// <summary>By vCPU id, ascending.</summary>
    public IReadOnlyDictionary<int, VcpuValues> Vcpus { get; }

    /// <summary>Whether the clock is known with its host TSC and CLOCK_REALTIME, whoever says so.</summary>
    public bool HasTriple => Clock.HasTriple;

    /// <summary>Whether it is KVM that says so, as it does while its master clock is on.</summary>
    public bool HasMasterClock { get; }

    /// <summary>By how much the clock can have been something else at that host TSC, in nanoseconds: nothing where KVM says so.</summary>
    public double ClockErrorNanoseconds { get; private init; }

    public bool OffsetsAreEqual => Vcpus.Values.Select(vcpu => vcpu.Offset).Distinct().Count() <= 1;

    /// <summary>The same, as if the clock had been read at some instant: KVM does not say when while its master clock is off.</summary>
    public TscSnapshot At(HostInstant instant) => Timed(TimedClock.At(Clock, instant), 0);

    /// <summary>The same with a reading of the clock of which is known when it was, and what that is good to.</summary>
    public TscSnapshot Timed(KvmClockData clock, double errorNanoseconds) => this with { Clock = clock, ClockErrorNanoseconds = errorNanoseconds };

    /// <summary>Prepares the reading, before the VM is stopped for it.</summary>
    /// <param name="machine">The VM.</param>
    /// <param name="asksGuestClocks">Reads what its guest takes from KVM, too.</param>
    /// <param name="timesClock">Finds out itself when the clock was read where KVM does not say: where its master clock is off, and stays off.</param>
    public static Reading Of(Machine machine, bool asksGuestClocks = false, bool timesClock = false)
    {
        var batch = new IoctlBatch();
        var pending = Add(batch, machine);
        if (asksGuestClocks && machine.VcpuIds.Count > 0)
            pending = pending with { GuestClocks = PendingClocks.Add(batch, machine.VcpuIds[0]) };
        return new Reading(batch, pending, machine, timesClock && TimedClock.IsPossible(machine));
    }

    /// <summary>Adds the reads to a batch; after it ran they become the snapshot.</summary>
    public static Pending Add(IoctlBatch batch, Machine machine)
    {
        var clock = batch.GetClock();
        var vcpus = new List<(int, Slot<ulong>, Slot<int>)>(machine.VcpuIds.Count);
        foreach (var id in machine.VcpuIds)
            vcpus.Add((id, batch.GetOffset(id), batch.GetTscKHz(id)));
        return new Pending(clock, vcpus);
    }

    /// <summary>A snapshot with a batch of its own.</summary>
    public sealed class Reading(IoctlBatch batch, Pending pending, Machine machine, bool timesClock)
    {
        /// <summary>A snapshot of nothing yet, for what is to be rehearsed.</summary>
        public TscSnapshot Empty => pending.Read(batch);

        /// <summary>Stops the VM for it, and for what depends on it.</summary>
        public Stopped<T> WhileStopped<T>(Func<IVMStop, T> work, CancellationToken cancellationToken) =>
            machine.Executor.WhileStopped(work, cancellationToken, batch);

        /// <summary>The same for what has no result; returns the microseconds.</summary>
        public double WhileStopped(Action<IVMStop> work, CancellationToken cancellationToken) =>
            machine.Executor.WhileStopped(work, cancellationToken, batch);

        /// <summary>Takes it, and lets the VM go on.</summary>
        public Stopped<TscSnapshot> Take(CancellationToken cancellationToken) => WhileStopped(Run, cancellationToken);

        /// <summary>Takes it, for what depends on it within the same stop.</summary>
        public TscSnapshot Run(IVMStop stop)
        {
            stop.RunOrThrow(batch, machine.Identity.Name);
            var snapshot = pending.Read(batch);
            return timesClock && TimedClock.IsNeeded(machine, snapshot) ? Time(stop, snapshot) : snapshot;
        }

        private TscSnapshot Time(IVMStop stop, TscSnapshot snapshot)
        {
            var timing = new IoctlBatch();
            var clock = TimedClock.Add(timing, machine);
            stop.RunOrThrow(timing, machine.Identity.Name);
            return clock.Read(timing, machine, snapshot);
        }
    }

    /// <summary>A snapshot that a batch is yet to take.</summary>
    public sealed record Pending(Slot<KvmClockData> Clock, IReadOnlyList<(int VcpuId, Slot<ulong> Offset, Slot<int> KHz)> Vcpus)
    {
        /// <summary>Null where they are not asked for.</summary>
        public PendingClocks? GuestClocks { get; init; }

        public TscSnapshot Read(IoctlBatch batch) => new(
            batch.Read(Clock),
            GuestClocks?.Read(batch),
            Vcpus.ToDictionary(vcpu => vcpu.VcpuId, vcpu => new VcpuValues(batch.Read(vcpu.Offset), (uint)batch.Read(vcpu.KHz))));
    }

    /// <summary>The MSRs by which a guest turns its clocks on, by their lowest bit; of one vCPU, which stands for all.</summary>
    public sealed record PendingClocks(Slot<KvmMsr> Old, Slot<KvmMsr> New, Slot<KvmMsr> HyperV)
    {
        public static PendingClocks Add(IoctlBatch batch, int vcpuId) => new(
            batch.TryGetMsr(vcpuId, KvmMsr.KvmSystemTime), batch.TryGetMsr(vcpuId, KvmMsr.KvmSystemTimeNew), batch.TryGetMsr(vcpuId, KvmMsr.HyperVReferenceTsc));

        public KvmGuestClocks Read(IoctlBatch batch)
        {
            return (IsOn(Old) || IsOn(New) ? KvmGuestClocks.Kvmclock : 0) | (IsOn(HyperV) ? KvmGuestClocks.HyperV : 0);

            bool IsOn(Slot<KvmMsr> msr) => (batch.Read(msr).Data & 1) != 0;
        }
    }
}
