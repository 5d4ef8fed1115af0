using KvmTsc.Arithmetic;
using KvmTsc.Clocks;
using KvmTsc.Discovery;
using KvmTsc.Execution;
using KvmTsc.Execution.Attach;
using KvmTsc.Hosts;
using KvmTsc.Interop;
using KvmTsc.Machines;
using KvmTsc.Migration;

namespace KvmTsc.Watching;

/// <summary>A VM that is watched: the lines of its clocks, and what is yet to be done about it.</summary>
internal sealed class WatchedVM : IDisposable
{
    private const int MostLooksInVain = 20;
    private const int BusyMilliseconds = 250;

    private readonly ClockPolicy _policy;
    private readonly LineStore _store;
    private readonly Dictionary<KvmTscState, TscRestore> _restores = [];
    private readonly CancellationTokenSource _ended = new();
    private readonly Lock _noting = new();
    private readonly HashSet<int> _writers = []; // threads of vCPUs whose guests were the last to write their TSC
    private Task? _armed;
    private volatile bool _isArmed;
    private volatile bool _hasFailedToHold;
    private ulong _ignoredUntil;
    private ulong _judgedUntil;
    private ulong? _offsetsWritten;
    private ulong? _clockSet;
    private ulong? _exitsWhenWritten;
    private ulong? _exitsWhenPaused;
    private ulong? _exitsWhenArmed;
    private bool _hasMasterClock = true;
    private bool _hasSlept;
    private int _looksInVain;

    /// <param name="machine">The VM.</param>
    /// <param name="process">Its process.</param>
    /// <param name="policy">What to do.</param>
    /// <param name="acts">Whether it is done, and not only said.</param>
    /// <param name="store">The lines of VMs: those that one of the same name was on, in another process or before this watch, may be this one's.</param>
    public WatchedVM(ProcessMachine machine, SafeDescriptor process, ClockPolicy policy, bool acts, LineStore store)
    {
        Machine = machine;
        Process = process;
        _policy = policy;
        Acts = policy.Corrects && acts;
        _store = store;
        UseStored();
    }

    public ProcessMachine Machine { get; private set; }

    /// <summary>Whether something is done about it.</summary>
    public bool Acts { get; }

    /// <summary>Readable once its process has ended.</summary>
    public SafeDescriptor Process { get; }

    public ClockHistory History { get; } = new();

    /// <summary>Whether it may be one that was known before, and nothing is known of its own clocks yet.</summary>
    public bool IsSuccessor { get; private set; }

    /// <summary>Whether its next entry into the guest is held.</summary>
    public bool IsArmed => _isArmed;

    public bool IsPaused { get; private set; }

    /// <summary>When its clocks are to be looked at, in milliseconds of <see cref="Environment.TickCount64"/>; null if nothing asks for it.</summary>
    public long? LookAt { get; set; }

    /// <summary>When to see whether it is paused.</summary>
    public long? PauseLookAt { get; set; }

    /// <summary>How often it was found to be paused in a row.</summary>
    public int PausedLooks { get; set; }

    /// <summary>How often it was looked for that in vain since it left the guest.</summary>
    public int VainLooks { get; set; }

    /// <summary>How often that is done.</summary>
    public int MostVainLooks { get; set; }

    /// <summary>How often it was looked at in vain before its guest ran.</summary>
    public int LooksBeforeGuest { get; set; }

    /// <summary>Whether offsets were written since its clocks were judged.</summary>
    public bool HasNews
    {
        get
        {
            lock (_noting)
                return _offsetsWritten is not null;
        }
    }

    /// <summary>
    /// Whether offsets were written since, and kvmclock was not yet, by a VMM that resets it, or puts it back: reset, memory, TSCs and kvmclock come one after another, and are
    /// judged together when it goes on. Its threads alone do not tell: where others have the CPUs, one that has left the guest looks like one that is in it.
    /// </summary>
    public bool AwaitsClock
    {
        get
        {
            lock (_noting)
                return _offsetsWritten is not null && _clockSet is null && (LooksPaused() || !HasRunSinceWritten);
        }
    }

    /// <summary>Whether its guest has run since offsets were written, or waits, which only one that runs does; true where nothing tells.</summary>
    private bool HasRunSinceWritten => _exitsWhenWritten is not { } exits || Machine.Debugfs?.ReadExits() != exits || Machine.HasHalted();

    /// <summary>Notes an event of its process.</summary>
    /// <returns>Whether it is one that we did not cause, and that asks for a look.</returns>
    public bool Note(TraceEvent occurred)
    {
        lock (_noting)
        {
            // A guest may write its TSC as soon as it is let go. KVM's master clock may come after that, and is ours.
            if (occurred.HostTsc <= (occurred.Kind == TraceEventKind.MasterClock ? _ignoredUntil : _judgedUntil))
                return false;
            switch (occurred.Kind)
            {
                case TraceEventKind.Offset:
                    _offsetsWritten = occurred.HostTsc;
                    _exitsWhenWritten = Machine.Debugfs?.ReadExits();
                    _writers.Add(occurred.ThreadId);
                    return true;
                case TraceEventKind.Tracked:
                    _writers.Remove(occurred.ThreadId);
                    return false;
                default:
                    _clockSet = occurred.HostTsc;
                    return true;
            }
        }
    }

    /// <summary>Whether a VM of its name was known before, with whichever vCPUs: before its first entry into the guest it may turn out to be that one.</summary>
    public bool MayBeSuccessor => Acts && _store.Of(Machine.Identity.Name).Count > 0;

    /// <summary>Takes notice of vCPUs that it has got since it was found: its VMM was still creating them, or has plugged one in.</summary>
    public void TakeVcpus()
    {
        if (Machine.IsAsFound || Machine.Again() is not { } machine)
            return;
        Machine = machine;
        _restores.Clear();
        KvmTscState[] lines = [.. History.Lines];
        History.Clear();
        if (IsSuccessor || !machine.GuestHasRun)
            UseStored();
        else
            foreach (var line in lines.Select(line => line.ForVcpus(machine.VcpuIds)).OfType<KvmTscState>())
                TryUse(line);
    }

    /// <summary>
    /// Its host has slept. Where the host's TSC began anew, that its clocks were on a line is known by another TSC now, and what was noted of it is of none.
    /// </summary>
    /// <param name="host">The host, now.</param>
    public void Wake(KvmHostIdentity host)
    {
        lock (_noting)
        {
            KvmTscState[] lines = [.. History.Lines.Select(line => line.CarriedOver(host))];
            if (lines.SequenceEqual(History.Lines))
                return;
            (_ignoredUntil, _judgedUntil, _offsetsWritten, _clockSet, _hasSlept) = (0, 0, null, null, true);
            _writers.Clear();
            _restores.Clear();
            History.Clear();
            foreach (var line in lines)
                TryUse(line);
        }

        LookAt = Environment.TickCount64;
    }

    /// <summary>Whether all of its vCPUs are out of the guest, and out of KVM.</summary>
    public bool LooksPaused() => Machine.IsStopped();

    /// <summary>It is taken for paused, if it still is: how often its vCPUs have left the guest until now tells later whether it ran since.</summary>
    public bool MarkPaused()
    {
        _exitsWhenPaused = Machine.Debugfs?.ReadExits();
        return IsPaused = LooksPaused();
    }

    /// <summary>Looks at its clocks, and puts right what is wrong with them: while it runs, in a stop.</summary>
    /// <param name="catchUp">Has it note, while it is stopped, what was not noted yet.</param>
    /// <param name="cancellationToken">Ends waiting for the VM.</param>
    public IReadOnlyList<KvmClockEvent> Look(Action<WatchedVM> catchUp, CancellationToken cancellationToken)
    {
        LookAt = null;
        try
        {
            var reading = TscSnapshot.Of(Machine);
            var events = Tell(reading.WhileStopped(stop => Work(stop, reading, catchUp), cancellationToken), beforeGuestRan: IsPaused);
            _looksInVain = 0;
            return events;
        }
        catch (KvmException exception) when (IsBusy(exception) && ++_looksInVain < MostLooksInVain)
        {
            LookAt = Environment.TickCount64 + BusyMilliseconds;
            return [];
        }
        catch (KvmException exception)
        {
            _looksInVain = 0;
            return Failed(exception);
        }
    }

    /// <summary>Somebody else may be at work in its process, as another cmdlet is for some milliseconds.</summary>
    private static bool IsBusy(KvmException exception) =>
        exception.ErrorId is KvmErrorId.BusyWithKvmTsc or KvmErrorId.AlreadyTraced or KvmErrorId.AttachDenied or KvmErrorId.AttachFailed or KvmErrorId.VcpuMismatch;

    /// <summary>It was found to be paused: its next entry into the guest is held, its clocks looked at then, and put right.</summary>
    /// <param name="done">Told what became of it, on another thread, when it was resumed.</param>
    public void Arm(Action<IReadOnlyList<KvmClockEvent>> done)
    {
        IsPaused = true;
        if (!Acts || IsArmed)
            return;
        _exitsWhenArmed = _exitsWhenPaused ?? 0; // one that was not found to be paused never ran
        _isArmed = true;
        _armed = Task.Factory.StartNew(
            () =>
            {
                try
                {
                    var stopped = HoldAtResume();
                    IsPaused = false;
                    End([new KvmClockEvent(KvmClockEventKind.Resumed, Machine.Identity), .. Tell(stopped, beforeGuestRan: true)], hasFailed: false);
                }
                catch (KvmException exception)
                {
                    End(IsBusy(exception) ? [] : Failed(exception), hasFailed: true); // the look that follows tries again, and tells if that was in vain
                }
                catch (OperationCanceledException)
                {
                    // The watch ends.
                }
                catch (Exception exception)
                {
                    End([new KvmClockEvent(KvmClockEventKind.Refused, Machine.Identity, reason: exception.ToString())], hasFailed: true); // not to be lost with this thread
                }
            },
            CancellationToken.None,
            TaskCreationOptions.LongRunning,
            TaskScheduler.Default);

        void End(IReadOnlyList<KvmClockEvent> events, bool hasFailed)
        {
            _hasFailedToHold = hasFailed;
            _isArmed = false;
            done(events);
        }
    }

    /// <summary>Whether it could not be held, once: nobody has looked at its clocks since, and events of it were passed over.</summary>
    public bool TakeFailureToHold()
    {
        var hasFailed = _hasFailedToHold;
        _hasFailedToHold = false;
        return hasFailed;
    }

    /// <summary>Holds it at its next entry into the guest. Others that are at work in its process meanwhile are waited for, as long as it is paused.</summary>
    private Stopped<Looked> HoldAtResume()
    {
        for (var tries = 1; ; tries++)
        {
            try
            {
                var reading = TscSnapshot.Of(Machine);
                return ((AttachedExecutor)Machine.Executor).WhileHeldAtResume(stop => Work(stop, reading), TimeSpan.MaxValue, (_, _) => { }, _ended.Token);
            }
            catch (KvmException exception) when (IsBusy(exception) && tries < MostLooksInVain && LooksPaused())
            {
                _ended.Token.WaitHandle.WaitOne(BusyMilliseconds);
                _ended.Token.ThrowIfCancellationRequested();
            }
        }
    }

    /// <summary>It goes on without having been held.</summary>
    public void Resume() => IsPaused = false;

    public void Dispose()
    {
        _ended.Cancel();
        _armed?.Wait();
        _ended.Dispose();
        Process.Dispose();
    }

    private Looked Work(IVMStop stop, TscSnapshot.Reading reading, Action<WatchedVM>? catchUp = null)
    {
        var now = reading.Run(stop);
        lock (_noting)
        {
            var known = _offsetsWritten;
            catchUp?.Invoke(this);
            if (_offsetsWritten != known && _clockSet is null)
                throw new KvmException(KvmErrorId.AttachFailed, $"{Machine.Identity.Name} is being reset, or put back.", "Try again.");
            if (_offsetsWritten is not null && !Machine.IsAsFound)
                throw new KvmException(KvmErrorId.VcpuMismatch, $"{Machine.Identity.Name} has got other vCPUs meanwhile.", "Try again.");
            try
            {
                return Work(stop, now, byGuest: _writers.Count > 0);
            }
            finally
            {
                _judgedUntil = HostTsc.Read();
                (_offsetsWritten, _clockSet) = (null, null);
                _writers.Clear();
            }
        }
    }

    private Looked Work(IVMStop stop, TscSnapshot now, bool byGuest)
    {
        // At its first entry into the guest KVM's master clock is not on yet; which line it is of can be told within some microseconds all the same.
        var judged = IsSuccessor && !now.HasTriple ? now.At(Machine.HostNow) : now;
        var verdict = History.Judge(judged, _offsetsWritten, _clockSet, byGuest, IsSuccessor);
        if (IsSuccessor && (verdict is { Change: not (ClockChange.None or ClockChange.SetBack) } || (verdict.Change == ClockChange.SetBack && MayHaveBegunAnew(judged))))
        {
            History.Clear(); // another VM of that name, or another life of it
            verdict = new ClockVerdict(ClockChange.None, 0, null);
        }

        if (verdict.Change == ClockChange.MasterClockLost && _hasSlept && History.Current is { } before && ClockHistory.Behind(now, before) is > ClockHistory.NoticeableNanoseconds and var asleep)
            verdict = verdict with { Line = before, LostNanoseconds = asleep };
        try
        {
            return verdict is { Change: ClockChange.SetBack or ClockChange.MasterClockLost, Line: { } line } && _policy.Corrects
                ? Correct(stop, now, verdict, line) with { HasRun = HasRunSincePause }
                : new Looked(now, verdict, ByGuest: byGuest);
        }
        catch (KvmException exception)
        {
            return new Looked(now, verdict, Refusal: exception.Message);
        }
    }

    /// <summary>Does what is to be done about time that is lost, refuses it, or, where nothing is to be done, only judges.</summary>
    private Looked Correct(IVMStop stop, TscSnapshot now, ClockVerdict verdict, KvmTscState line) => _policy.Downtime switch
    {
        TscDowntime.Count when IsTooMuch(verdict.LostNanoseconds) => new Looked(now, verdict, Refusal: "It is more than -MaximumDowntime allows."),
        _ when !line.OffsetsAreEqual && (_policy.Downtime != TscDowntime.Count || !HasTscsOf(now, line)) => new Looked(
            now, verdict, Refusal: "The TSCs of its vCPUs differ, as its guest wrote them: KVM would turn its master clock off if they were written."),
        _ when !Acts => new Looked(now, verdict),
        TscDowntime.Count when verdict.Change == ClockChange.MasterClockLost => new Looked(now, verdict, _restores[line].Apply(stop)),
        _ when verdict.Change == ClockChange.MasterClockLost => new Looked(now, verdict), // kvmclock has the time asleep by KVM itself
        TscDowntime.Count => new Looked(now, verdict, _restores[line].Apply(stop, now)),
        _ when HasNotRun(now, line) => new Looked(PauseExclusion.Apply(Machine, stop, now, line), verdict, IsExcluded: true),
        _ => new Looked(
            now, verdict, Refusal: "The pause is to be none (-Downtime Exclude), but its guest has run since, or was put back to an earlier moment: a TSC is not taken back."),
    };

    /// <summary>
    /// Whether its clocks may be those of a guest that began in its process, which began after all that is known was seen: both count from nothing then, as on any line. One
    /// that was restored there has more on its kvmclock than that process is old. Before its first entry into the guest a new one's is nothing, and the line tells.
    /// </summary>
    private bool MayHaveBegunAnew(TscSnapshot now)
    {
        const ulong NanosecondsPerTick = 10_000_000;
        const ulong Slack = 1_000_000_000; // of both clocks' rates, and of that tick
        if (!Machine.GuestHasRun)
            return false;
        var age = LibC.ClockNanoseconds(LibC.CLOCK_BOOTTIME) - (Machine.StartTime * NanosecondsPerTick) + Slack;
        return now.Clock.Clock <= age && History.Lines.All(line => TscArithmetic.NanosecondsIn(TscArithmetic.Distance(line.HostTsc, now.Clock.HostTsc), line.Host.TscKHz) > age);
    }

    /// <summary>Whether its guest has executed nothing since it was paused, and has the line's TSCs.</summary>
    private bool HasNotRun(TscSnapshot now, KvmTscState line) =>
        IsPaused && _exitsWhenPaused is { } exits && Machine.Debugfs?.ReadExits() == exits && HasTscsOf(now, line);

    private static bool HasTscsOf(TscSnapshot now, KvmTscState line) =>
        now.HasTriple && line.Vcpus.All(vcpu => now.Vcpus[vcpu.VcpuId] == new TscSnapshot.VcpuValues(unchecked((ulong)vcpu.OffsetTicks), vcpu.TscKHz));

    /// <summary>Whether its guest has run before it could be held, as one does that is resumed just when it was found to be paused.</summary>
    private bool HasRunSincePause => IsPaused && _exitsWhenArmed is { } exits && Machine.Debugfs?.ReadExits() is { } now && now != exits;

    private bool IsTooMuch(long lost) => _policy.MaximumDowntime is { } most && lost > most.TotalMilliseconds * 1e6;

    private List<KvmClockEvent> Tell(Stopped<Looked> stopped, bool beforeGuestRan)
    {
        var (looked, microseconds) = stopped;
        lock (_noting)
        {
            _ignoredUntil = HostTsc.Read();
            _clockSet = null; // by us, if another thread has noted that meanwhile
        }

        List<KvmClockEvent> events = [];
        var verdict = looked.Verdict;
        if (verdict.Change == ClockChange.MasterClockLost)
        {
            if (_hasMasterClock)
                events.Add(new KvmClockEvent(
                    KvmClockEventKind.MasterClockLost, Machine.Identity, reason: "The offsets of its vCPUs differ, the host slept, or its clocksource is not tsc (Repair-KvmMasterClock)."));
            _hasMasterClock = false;
            if (verdict.Line is not null)
                events.AddRange(Tell(verdict with { Change = ClockChange.SetBack }, looked, microseconds, beforeGuestRan));
            _hasSlept &= looked is { Applied: null, Refusal: not null };
            return events;
        }

        if (!_hasMasterClock)
            events.Add(new KvmClockEvent(KvmClockEventKind.MasterClockRegained, Machine.Identity));
        _hasMasterClock = true;
        IsSuccessor = false;
        events.AddRange(Tell(verdict, looked, microseconds, beforeGuestRan));
        if (looked.Applied is not null)
            Keep(verdict.Line!, events);
        else if (looked.Now.HasTriple)
            Keep(KvmTscState.Of(Machine, Machine.Host, looked.Now, microseconds), events);
        return events;
    }

    private IEnumerable<KvmClockEvent> Tell(ClockVerdict verdict, Looked looked, double microseconds, bool beforeGuestRan)
    {
        KvmClockEvent Of(KvmClockEventKind kind, string? reason = null) => new(kind, Machine.Identity, verdict.LostNanoseconds, microseconds, reason);
        switch (verdict.Change)
        {
            case ClockChange.SetForward:
                yield return Of(KvmClockEventKind.SetForward);
                break;
            case ClockChange.TscMoved:
                yield return Of(KvmClockEventKind.TscMoved, looked.ByGuest ? "Its guest wrote its TSC." : "Its guest was reset, or somebody set its TSC.");
                break;
            case ClockChange.Unknown:
                yield return Of(KvmClockEventKind.SetBack);
                if (_policy.Corrects)
                    yield return Of(
                        KvmClockEventKind.Refused,
                        looked.ByGuest ? "Its guest wrote its TSC, so that it cannot be told what else became of it." : "It was put back to a moment that this watch has not seen, or cannot tell from another.");
                break;
            case ClockChange.SetBack when looked.Applied is not null:
                var result = _restores[verdict.Line!].ResultOf(new Stopped<TscRestore.Applied>(looked.Applied, microseconds));
                yield return new KvmClockEvent(
                    KvmClockEventKind.Corrected, Machine.Identity, verdict.LostNanoseconds, microseconds, reason: null,
                    result.ClockResidualNanoseconds, result.ErrorBoundNanoseconds, beforeGuestRan && !looked.HasRun);
                break;
            case ClockChange.SetBack when looked.IsExcluded:
                yield return Of(KvmClockEventKind.Excluded);
                break;
            case ClockChange.SetBack:
                yield return Of(KvmClockEventKind.SetBack);
                if (looked.Refusal is { } refusal)
                    yield return Of(KvmClockEventKind.Refused, refusal);
                else if (_policy.Corrects)
                    yield return Of(KvmClockEventKind.WouldCorrect);
                break;
        }
    }

    /// <summary>Its clocks are on this line.</summary>
    private void Keep(KvmTscState line, List<KvmClockEvent> events)
    {
        Use(line);
        foreach (var forgotten in _restores.Keys.Except(History.Lines).ToArray())
            _restores.Remove(forgotten);
        try
        {
            _store.Keep(Machine.Identity.Name, History.Lines);
        }
        catch (KvmException exception)
        {
            events.Add(KvmClockEvent.Of(KvmClockEventKind.NotWritten, Machine.Identity, exception));
        }
    }

    /// <summary>What is known of VMs of its name that had the same vCPUs.</summary>
    private void UseStored()
    {
        foreach (var line in _store.Of(Machine.Identity.Name).Where(line => line.Vcpus.Select(vcpu => vcpu.VcpuId).Order().SequenceEqual(Machine.VcpuIds)))
            TryUse(line);
        IsSuccessor = History.Current is not null;
    }

    /// <summary>A line of a VM of that name: it may be of one that this VM could not be restored to.</summary>
    private void TryUse(KvmTscState line)
    {
        if (!line.OffsetsAreEqual && line.VMId != Machine.Identity.Id)
            return; // as the guest wrote them: no other VM can be given these
        try
        {
            Use(line);
        }
        catch (KvmException)
        {
            // It is nothing to this VM.
        }
    }

    /// <summary>Its clocks may be on this line. What a restore to it needs is made now, and not while the vCPUs are held.</summary>
    private void Use(KvmTscState line)
    {
        if (Acts && !_restores.ContainsKey(line))
        {
            var restore = new TscRestore(Machine, line, new TscRestoreOptions { KeepsTsc = !line.OffsetsAreEqual });
            restore.Rehearse();
            _restores.Add(line, restore);
        }

        History.Add(line);
    }

    private IReadOnlyList<KvmClockEvent> Failed(KvmException exception) => exception.ErrorId == KvmErrorId.ProcessGone
        ? []
        : [KvmClockEvent.Of(KvmClockEventKind.Refused, Machine.Identity, exception)];

    private sealed record Looked(
        TscSnapshot Now, ClockVerdict Verdict, TscRestore.Applied? Applied = null, string? Refusal = null, bool IsExcluded = false, bool ByGuest = false, bool HasRun = false);
}
