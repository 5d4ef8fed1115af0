using KvmTsc.Arithmetic;
using KvmTsc.Clocks;
using KvmTsc.Execution;
using KvmTsc.Execution.Attach;
using KvmTsc.Hosts;
using KvmTsc.Interop;
using KvmTsc.Machines;

namespace KvmTsc.Migration;

/// <summary>
/// Gives a VM the clocks of a state, steps 4 to 7 of the algorithm: frequencies first, since they move the guest's TSC, then kvmclock,
/// then all offsets. All of it is read back; if anything fails, what was written is put back. Where KVM leaves its master clock off for good, which step 5 needs,
/// a guest TSC that is read before and after kvmclock takes its place.
/// </summary>
public sealed class TscRestore
{
    private readonly Machine _machine;
    private readonly KvmTscState _state;
    private readonly TscRestoreOptions _options;
    private readonly KvmHostIdentity _host;
    private readonly TscSnapshot.Reading _reading;
    private readonly bool _guestHasRun;
    private readonly bool _isOneTsc;

    /// <summary>
    /// How often kvmclock is read and set again, less what it is off by. KVM takes CLOCK_REALTIME somewhat later than the time it computes
    /// kvmclock from. The first correction takes away what is alike each time, the second what the first setting had of its own.
    /// </summary>
    private int Corrections => _options.Method == TscMethod.Best && Counts ? 2 : 0;

    private bool Counts => _options.Downtime == TscDowntime.Count;

    /// <summary>
    /// How often all is written, where something else took so much time within a setting that the next one was corrected by it: kvmclock is off by that then.
    /// </summary>
    private const int MaximumTries = 3;

    /// <summary>By how much kvmclock may be off before that, in nanoseconds.</summary>
    private const long Tolerance = 10_000;

    /// <summary>Whether the time since the capture is told by the host's TSC, and CLOCK_REALTIME plays no part.</summary>
    private bool GoesByTsc => Counts && _isOneTsc && _options.Method == TscMethod.Best;

    /// <summary>Prepares a restore and refuses what can be refused without stopping the VM.</summary>
    /// <param name="machine">The VM.</param>
    /// <param name="state">The state.</param>
    /// <param name="options">How it is to be restored.</param>
    /// <exception cref="KvmException">The state does not fit this VM or this host.</exception>
    public TscRestore(Machine machine, KvmTscState state, TscRestoreOptions options)
    {
        _machine = machine;
        _options = options;
        state.Validate();
        _state = options.Force ? state.ForVcpus(machine.VcpuIds) ?? state : state;
        _host = machine.Host;
        foreach (var rule in RestoreRules.Of(machine, _host, _state, options))
            rule(options.Force);
        _reading = TscSnapshot.Of(machine, asksGuestClocks: true, timesClock: true);
        _guestHasRun = machine.GuestHasRun;
        _isOneTsc = ClockLine.IsOneTsc(state, _host, machine.HostNow.HostTsc);
    }

    /// <summary>What a restore would do now: old and new value of kvmclock and of every vCPU's offset. Changes nothing.</summary>
    /// <exception cref="KvmException">The restore would be refused.</exception>
    public TscRestorePreview Preview(CancellationToken cancellationToken)
    {
        RefuseClocks();
        var before = _reading.WhileStopped(ReadBefore, cancellationToken).Result;
        Refuse(before);
        var clock = unchecked(_state.ClockNanoseconds + (ulong)ElapsedAt(before));
        var offsets = _state.Vcpus.Select(vcpu => new TscRestorePreview.Vcpu(
            vcpu.VcpuId,
            unchecked((long)before.Vcpus[vcpu.VcpuId].Offset),
            ExactOffset(vcpu) ?? (before.HasTriple ? PredictedOffset(vcpu, _machine.InstantOf(before.Clock)) : null),
            before.Vcpus[vcpu.VcpuId].KHz,
            IsSupported(vcpu) ? vcpu.TscKHz : before.Vcpus[vcpu.VcpuId].KHz));
        return new TscRestorePreview(before.Clock.Clock, clock, [.. offsets]);
    }

    /// <summary>Restores.</summary>
    /// <exception cref="KvmException">It was refused, or it failed; the VM is as it was unless the message says otherwise.</exception>
    public KvmTscMigrationResult Run(CancellationToken cancellationToken)
    {
        RefuseClocks();
        return ResultOf(_reading.WhileStopped(Apply, cancellationToken));
    }

    /// <summary>
    /// Restores at the moment when the VM is resumed, after its VMM has set the clocks to its own idea and before the guest runs.
    /// </summary>
    /// <param name="timeout">How long to wait for that.</param>
    /// <param name="waiting">Told now and then, on the calling thread, for how long it has been waited, and how many vCPUs are held.</param>
    /// <param name="cancellationToken">Ends waiting.</param>
    /// <exception cref="KvmException">The VM was not resumed in time, or as for <see cref="Run(CancellationToken)"/>.</exception>
    public KvmTscMigrationResult RunAtResume(TimeSpan timeout, Action<TimeSpan, int> waiting, CancellationToken cancellationToken)
    {
        if (_machine.Executor is not AttachedExecutor executor)
        {
            throw new KvmException(
                KvmErrorId.AttachUnsupported,
                $"{_machine.Identity.Name} is a VM of this process: nothing resumes it.",
                "Leave -AtResume out.");
        }

        RefuseClocks();
        Rehearse();
        return ResultOf(executor.WhileHeldAtResume(Apply, timeout, waiting, cancellationToken));
    }

    /// <summary>What .NET makes on first use it makes now, and not while vCPUs are held.</summary>
    internal void Rehearse()
    {
        _ = Plan(_reading.Empty);
        if (_machine.VcpuIds.Count > 0)
            _ = PlanWithoutMasterClock(_reading.Empty, 0);
    }

    private void RefuseClocks()
    {
        foreach (var rule in RestoreRules.OfClocks(_machine, _state, _options))
            rule(_options.Force);
    }

    /// <summary>Restores within a stop.</summary>
    internal Applied Apply(IVMStop stop) => Apply(stop, ReadBefore(stop));

    /// <summary>Restores within a stop in which the clocks were read already.</summary>
    internal Applied Apply(IVMStop stop, TscSnapshot before)
    {
        Refuse(before);
        if (before.Clock.IsOfLostTsc || CanDoWithoutMasterClock(before))
            before = LookAnew(stop, before);
        return CanDoWithoutMasterClock(before) ? ApplyWithoutMasterClock(stop, before) : ApplyByMasterClock(stop, before);
    }

    /// <summary>Whether KVM has its master clock off although all TSCs are one, and one of them that is read tells the time as well.</summary>
    private bool CanDoWithoutMasterClock(TscSnapshot before) =>
        before.HasTriple && !before.HasMasterClock && !_options.KeepsTsc && HaveOneFrequency;

    /// <summary>
    /// Has KVM turn its master clock on if it ever will: all vCPUs are given the offset that they have, and kvmclock is set to its own line. Of a VM that has not run since its
    /// host's TSC began anew KVM tells no kvmclock, nor what it would be, and it is given that of the state.
    /// </summary>
    private TscSnapshot LookAnew(IVMStop stop, TscSnapshot before)
    {
        var batch = new IoctlBatch();
        TscUndo.OffsetsOf(batch, 1, before);
        foreach (var (id, vcpu) in before.Vcpus)
            batch.SetOffset(id, batch.Reserve(vcpu.Offset));
        if (!before.Clock.IsOfLostTsc)
            TscUndo.ClockOf(batch, batch.Steps.Count + 1, before.Clock);
        batch.SetClock(before.Clock.IsOfLostTsc ? ClockToSet(before, 0) : GuestClock.ClockData(before.Clock.Clock, before.Clock.Realtime));
        var readBack = TscSnapshot.Add(batch, _machine);
        var timing = TimedClock.Add(batch, _machine);
        stop.RunOrThrow(batch, _machine.Identity.Name);
        var now = readBack.Read(batch) with { GuestClocks = before.GuestClocks };
        return now.HasTriple ? now : timing.Read(batch, _machine, now);
    }

    private Applied ApplyByMasterClock(IVMStop stop, TscSnapshot before)
    {
        for (var tries = 1; ; tries++)
        {
            var (batch, stepFour, stepFive, readBack) = Plan(before);
            if (tries > 1)
                batch.UndoWhateverFails();
            stop.RunOrThrow(batch, _machine.Identity.Name);
            var applied = new Applied(before, readBack.Read(batch), (batch.Read(stepFour), batch.Read(stepFive)));
            if (tries == MaximumTries || !CanWriteAgain || Math.Abs(ResidualOf(applied)) <= Tolerance)
                return applied;
        }
    }

    private Applied ApplyWithoutMasterClock(IVMStop stop, TscSnapshot before)
    {
        var held = HeldBack(before);
        var (batch, around, clock, readBack, timing) = PlanWithoutMasterClock(before, held);
        stop.RunOrThrow(batch, _machine.Identity.Name);
        var after = timing.Read(batch, _machine, readBack.Read(batch));
        var set = batch.Read(clock);
        return new Applied(before, after, (At(around.Before), At(around.After)), held);

        KvmClockData At(Slot<KvmMsr> tsc) => TimedClock.At(set, _machine, before.Vcpus[FirstVcpu].Offset, after.Vcpus[FirstVcpu].KHz, batch.Read(tsc).Data);
    }

    /// <summary>Whether all can be written again: where the vCPUs' frequencies differ, KVM's master clock, by which kvmclock is corrected, is off by now.</summary>
    private bool CanWriteAgain => Corrections > 0 && HaveOneFrequency;

    private bool HaveOneFrequency => _state.Vcpus.DistinctBy(vcpu => vcpu.TscKHz).Count() == 1;

    /// <summary>By how much kvmclock is off, after it was corrected.</summary>
    private long ResidualOf(Applied applied)
    {
        var now = applied.AtSetting.After;
        return TscArithmetic.Distance(unchecked(_state.ClockNanoseconds + (ulong)SinceCapture(_machine.InstantOf(now))), now.Clock);
    }

    /// <summary>The time that is to have passed for the guest, by the best clock that there is.</summary>
    private long ElapsedAt(TscSnapshot before) => Counts ? SinceCapture(_machine.InstantOf(before.Clock)) : 0;

    private long SinceCapture(HostInstant now) => ClockLine.DowntimeOf(_state, _host, GoesByTsc, now.HostTsc, now.Realtime);

    /// <summary>
    /// What KVM_SET_CLOCK is given. With a CLOCK_REALTIME it adds the time since: that of the capture; on one TSC, by which kvmclock is then corrected, that
    /// of just now, since the clock may have been set in between.
    /// </summary>
    private KvmClockData ClockToSet(TscSnapshot before, ulong heldNanoseconds) => GuestClock.ClockData(
        unchecked(_state.ClockNanoseconds + heldNanoseconds + (GoesByTsc ? (ulong)ElapsedAt(before) : 0)),
        !Counts ? null
            : !GoesByTsc ? _state.RealtimeNanoseconds
            : _machine.InstantOf(before.Clock).Realtime);

    /// <summary>
    /// kvmclock of a guest that ran on is never taken back. Where it is ahead by no more than an earlier restore may have left it, it stays so.
    /// </summary>
    private ulong HeldBack(TscSnapshot before)
    {
        if (!Counts || !_guestHasRun || _options.Force || !before.HasTriple)
            return 0;
        var elapsed = ElapsedAt(before);
        var ahead = TscArithmetic.Distance(unchecked(_state.ClockNanoseconds + (ulong)elapsed), before.Clock.Clock);
        return ahead > 0 && ahead <= ToleranceOf(before, elapsed) ? (ulong)ahead : 0;
    }

    /// <summary>
    /// While KVM's master clock is off, kvmclock goes on by the kernel's own clock, also while the host sleeps: what that may be ahead by is no reason to take it back.
    /// </summary>
    private double ToleranceOf(TscSnapshot before, long elapsed)
    {
        const double BesideMasterClock = 0.25e-6; // what the kernel's raw clock, which it goes on with, runs beside the master clock, which it went by until then
        if (before.HasMasterClock || before.ClockErrorNanoseconds == 0)
            return GoesByTsc ? Tolerance : 0;
        var bound = ClockLine.BoundOf(_state, _options, _machine.HostTsc, _host, _isOneTsc, (_machine.InstantOf(before.Clock), elapsed));
        return Tolerance + bound + before.ClockErrorNanoseconds + (BesideMasterClock * _state.ClockNanoseconds);
    }

    /// <summary>What became of it.</summary>
    internal KvmTscMigrationResult ResultOf(Stopped<Applied> stopped)
    {
        var ((before, after, atSetting, held), microseconds) = stopped;
        var clock = after.HasTriple ? after.Clock : atSetting.After;
        var identity = _machine.Identity;
        var line = new ClockLine(_state, _options, _machine, _host, atSetting, clock, (after.ClockErrorNanoseconds, held));
        return new KvmTscMigrationResult(
            _state,
            _host.MachineName,
            new KvmClock(identity, before.Clock, microseconds),
            new KvmClock(identity, clock, microseconds),
            _options,
            line,
            after.HasMasterClock,
            before.GuestClocks ?? KvmGuestClocks.None,
            [.. _state.Vcpus.Select(vcpu => ResultOf(vcpu, before, after, clock, line))]);
    }

    /// <summary>What was read before the clocks were set, after it, and around the setting of kvmclock; and by how much that was left ahead of where it should be.</summary>
    internal sealed record Applied(TscSnapshot Before, TscSnapshot After, (KvmClockData Before, KvmClockData After) AtSetting, ulong HeldNanoseconds = 0);

    private (IoctlBatch Batch, Slot<KvmClockData> StepFour, Slot<KvmClockData> StepFive, TscSnapshot.Pending ReadBack) Plan(TscSnapshot before)
    {
        var batch = new IoctlBatch();
        var (stepFour, stepFive) = AddWrites(batch, before);
        var readBack = TscSnapshot.Add(batch, _machine);
        batch.SettleVcpus(_machine.VcpuIds);
        return (batch, stepFour, stepFive, readBack);
    }

    private int FirstVcpu => _machine.VcpuIds[0];

    /// <summary>All writes in the order of <see cref="AddWrites"/>, kvmclock between two readings of a guest TSC.</summary>
    private (IoctlBatch Batch, (Slot<KvmMsr> Before, Slot<KvmMsr> After) Around, Slot<KvmClockData> Clock, TscSnapshot.Pending ReadBack, TimedClock Timing) PlanWithoutMasterClock(
        TscSnapshot before, ulong held)
    {
        var batch = new IoctlBatch();
        GuestTsc.AddWrites(batch, _machine.HostTsc, before, _state.Vcpus.Where(IsSupported).Select(vcpu => (vcpu.VcpuId, vcpu.TscKHz)));
        var earlier = batch.GetGuestTsc(FirstVcpu);
        TscUndo.ClockOf(batch, batch.Steps.Count + 1, before.Clock);
        batch.SetClock(ClockToSet(before, held));
        var clock = batch.GetClock();
        var later = batch.GetGuestTsc(FirstVcpu);
        TscUndo.OffsetsOf(batch, batch.Steps.Count + 1, before);
        GuestTsc.AddWrites(batch, _state.Vcpus.Select(vcpu => (vcpu.VcpuId, ExactOffset(vcpu) is { } exact
            ? batch.Reserve(unchecked((ulong)exact))
            : batch.ResolveOffset(
                clock, (later, before.Vcpus[FirstVcpu].Offset), ClockLine.SourceGuestTsc(_state, vcpu), unchecked(_state.ClockNanoseconds + held), vcpu.TscKHz))));
        var readBack = TscSnapshot.Add(batch, _machine);
        var timing = TimedClock.Add(batch, _machine);
        batch.SettleVcpus(_machine.VcpuIds);
        return (batch, (earlier, later), clock, readBack, timing);
    }

    /// <summary>Adds all writes; returns the clock read just before it is set, and step 5's.</summary>
    private (Slot<KvmClockData> StepFour, Slot<KvmClockData> StepFive) AddWrites(IoctlBatch batch, TscSnapshot before)
    {
        GuestTsc.AddWrites(batch, _machine.HostTsc, before, _state.Vcpus.Where(IsSupported).Select(vcpu => (vcpu.VcpuId, vcpu.TscKHz)));

        var firstOffset = _options.KeepsTsc ? null : AddCommonOffset(batch);
        var setClock = batch.Steps.Count;
        var held = HeldBack(before);
        var value = batch.Reserve(ClockToSet(before, held));
        if (!before.HasTriple)
            batch.SetClock(value);

        // The two readings around the setting say how long it took, which is how far kvmclock can be off by it. A correction has in it how long the setting
        // before it took: those around both count then.
        var stepFour = batch.GetTriple();
        var previous = stepFour;
        if (before.HasTriple)
            setClock = batch.Steps.Count;
        batch.SetClock(value);
        var clock = batch.GetTriple();
        var line = _state.Reading;
        line.Clock = unchecked(line.Clock + held);
        for (var i = 0; i < Corrections; i++)
        {
            batch.CorrectClock(clock, line, _isOneTsc ? _host.TscKHz : null, value);
            batch.SetClock(value);
            (stepFour, previous, clock) = (previous, clock, batch.GetTriple());
        }

        if (!_options.KeepsTsc)
        {
            var offsets = _state.Vcpus.Select(vcpu => (vcpu.VcpuId, OffsetSlot(batch, vcpu, before, clock))).ToArray();
            firstOffset ??= batch.Steps.Count;
            GuestTsc.AddWrites(batch, offsets);
            TscUndo.OffsetsOf(batch, firstOffset.Value + 1, before);
        }

        TscUndo.ClockOf(batch, setClock + 1, before.Clock);
        return (stepFour, clock);
    }

    /// <summary>
    /// Gives all vCPUs one offset, whatever it is. Step 5 needs the master clock, which KVM turns on when every vCPU was given the same offset,
    /// one after another; that offsets are equal does not tell whether they were, nor do the clock's flags before it is set.
    /// </summary>
    /// <returns>The index of the first step, null if the vCPUs' frequencies differ: no offset brings those in step.</returns>
    private int? AddCommonOffset(IoctlBatch batch)
    {
        if (!HaveOneFrequency)
            return null;
        var first = batch.Steps.Count;
        var offset = batch.Reserve(unchecked((ulong)_state.Vcpus[0].OffsetTicks));
        foreach (var vcpu in _state.Vcpus)
            batch.SetOffset(vcpu.VcpuId, offset);
        return first;
    }

    private Slot<ulong> OffsetSlot(IoctlBatch batch, KvmVcpuTscState vcpu, TscSnapshot before, Slot<KvmClockData> clock) =>
        ExactOffset(vcpu) is { } exact
            ? batch.Reserve(unchecked((ulong)exact))
            : batch.ResolveOffset(
                clock, ClockLine.SourceGuestTsc(_state, vcpu), _state.ClockNanoseconds, vcpu.TscKHz, _machine.HostTsc.RatioFor(vcpu.TscKHz));

    private long? ExactOffset(KvmVcpuTscState vcpu) => ClockLine.ExactOffset(vcpu, _options, _machine.HostTsc, _isOneTsc);

    private long PredictedOffset(KvmVcpuTscState vcpu, HostInstant now) => unchecked((long)TscArithmetic.ResolveOffset(
        ClockLine.SourceGuestTsc(_state, vcpu),
        _state.ClockNanoseconds,
        now.HostTsc,
        unchecked(_state.ClockNanoseconds + (Counts ? (ulong)SinceCapture(now) : 0)),
        vcpu.TscKHz,
        _machine.HostTsc.RatioFor(vcpu.TscKHz)));

    private KvmVcpuTscResult ResultOf(KvmVcpuTscState vcpu, TscSnapshot before, TscSnapshot after, KvmClockData clock, ClockLine line)
    {
        var values = after.Vcpus[vcpu.VcpuId];
        var guestTsc = TscArithmetic.GuestTsc(clock.HostTsc, _machine.RatioOf(vcpu.VcpuId, values.KHz), values.Offset);
        var residual = TscArithmetic.Distance(line.ExpectedGuestTsc(vcpu), guestTsc);
        return new KvmVcpuTscResult(
            _machine.Identity.Name,
            vcpu.VcpuId,
            unchecked((long)before.Vcpus[vcpu.VcpuId].Offset),
            unchecked((long)values.Offset),
            before.Vcpus[vcpu.VcpuId].KHz,
            values.KHz,
            guestTsc,
            residual,
            residual * 1e6 / vcpu.TscKHz);
    }

    private TscSnapshot ReadBefore(IVMStop stop)
    {
        var before = _reading.Run(stop);
        RestoreRules.RefuseDowntime(_machine, _host, _state, _options);
        return before;
    }

    private bool IsSupported(KvmVcpuTscState vcpu) => _machine.HostTsc.Supports(vcpu.TscKHz);

    /// <summary>Refuses a frequency that KVM would refuse, where the vCPU does not have it already: KVM keeps one that its VMM asked for all the same.</summary>
    private void RefuseNumbers(TscSnapshot before)
    {
        if (!_options.Force && _state.Vcpus.FirstOrDefault(vcpu => !IsSupported(vcpu) && before.Vcpus[vcpu.VcpuId].KHz != vcpu.TscKHz) is { } odd)
            _ = _machine.HostTsc.RatioFor(odd.TscKHz);
    }

    /// <summary>Refuses what can be told only from the VM's clocks.</summary>
    internal void Refuse(TscSnapshot before)
    {
        RefuseNumbers(before);
        RefuseBackwards(before);
    }

    /// <summary>Refuses to take the clocks of a guest that has run back.</summary>
    private void RefuseBackwards(TscSnapshot before)
    {
        if (_options.Force || !_guestHasRun)
            return;
        if (!before.Clock.IsOfLostTsc)
            GuestClock.RefuseBackwards(_machine, before.Clock, ClockToSet(before, HeldBack(before)));
        var instant = _machine.InstantOf(before.Clock);
        foreach (var vcpu in _state.Vcpus)
        {
            var values = before.Vcpus[vcpu.VcpuId];
            var now = TscArithmetic.GuestTsc(instant.HostTsc, _machine.RatioOf(vcpu.VcpuId, values.KHz), values.Offset);
            var target = TscArithmetic.GuestTsc(
                instant.HostTsc,
                _machine.HostTsc.RatioAt(vcpu.TscKHz),
                unchecked((ulong)(ExactOffset(vcpu) ?? PredictedOffset(vcpu, instant))));
            GuestTsc.RefuseBackwards(_machine, vcpu.VcpuId, TscArithmetic.Distance(now, target));
        }
    }
}
