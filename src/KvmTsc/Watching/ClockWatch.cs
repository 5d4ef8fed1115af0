using System.Collections.Concurrent;
using KvmTsc.Discovery;
using KvmTsc.Execution.Attach;
using KvmTsc.Hosts;
using KvmTsc.Interop;
using KvmTsc.Local;
using KvmTsc.Processes;

namespace KvmTsc.Watching;

/// <summary>
/// Watches the clocks of the VMs of other processes, and puts right what a VMM sets back. KVM's tracepoints tell when a clock was touched; between such events nothing is
/// done. What became of the clocks is read, compared and put right in one stop of the VM: as soon as it was resumed, or, where it was found to be paused before, at its first
/// entry into the guest.
/// </summary>
public sealed class ClockWatch
{
    /// <summary>For how long exits from the guest are gathered before anybody looks: there may be hundreds in a second.</summary>
    private const int GatheringMilliseconds = 100;

    /// <summary>After how long the offsets that were written are all written.</summary>
    private const int SettlingMilliseconds = 300;

    /// <summary>After how long a VM that is created is looked for.</summary>
    private const int CreationMilliseconds = 300;

    private const int PausedLooks = 2;

    private const int MostKnownThreads = 10_000;

    /// <summary>How often it is looked in vain for a pause of which an exit from the guest told, the later the less often: for some minutes in all.</summary>
    private const int MostLooks = 12;

    /// <summary>The same for a VM that was just found, of which nothing tells that it is about to be paused: for some seconds.</summary>
    private const int MostFirstLooks = 5;

    private readonly ClockWatchOptions _options;
    private readonly Action<KvmClockEvent> _tell;
    private readonly Dictionary<string, WatchedVM> _vms = [];
    private readonly Dictionary<int, int> _processes = []; // by thread
    private readonly Dictionary<int, long> _discoverAt = []; // by process
    private readonly ConcurrentQueue<KvmClockEvent> _told = [];
    private readonly ConcurrentQueue<WatchedVM> _resumed = [];
    private readonly Queue<TraceEvent> _unread = [];
    private readonly KvmTrace _clocks;
    private readonly LineStore _lines;
    private readonly ClockMetrics? _metrics;
    private bool _isCounted = true;
    private (HostInstant Now, ulong MonotonicRaw, ulong Suspended) _awake = HostClock.ReadAll();

    private ClockWatch(ClockWatchOptions options, KvmTrace clocks, Action<KvmClockEvent> tell)
    {
        _options = options;
        _clocks = clocks;
        _lines = LineStore.Open(options.Acts ? options.StatePath : null, static () => LocalHost.Identify(LocalHost.Tsc.KHz));
        _metrics = options.MetricsPath is { } path ? new ClockMetrics(path) : null;
        _tell = occurred =>
        {
            _metrics?.Count(occurred);
            tell(occurred);
        };
    }

    /// <summary>Watches until it is cancelled.</summary>
    /// <param name="options">What to watch and what to do.</param>
    /// <param name="tell">Told what happens, on the calling thread.</param>
    /// <param name="cancellationToken">Ends it.</param>
    /// <exception cref="KvmException">This host cannot be watched.</exception>
    public static void Run(ClockWatchOptions options, Action<KvmClockEvent> tell, CancellationToken cancellationToken)
    {
        using var clocks = KvmTrace.OfClocks();
        using var exits = KvmTrace.OfExits();
        using var wake = LibC.Eventfd();
        using var registration = cancellationToken.Register(() => LibC.Signal(wake));
        var watch = new ClockWatch(options, clocks, tell);
        foreach (var machine in LocalMachines.All.Where(machine => options.PolicyOf(machine.Identity.Name) is not null))
            tell(new KvmClockEvent(KvmClockEventKind.LeftOut, machine.Identity, reason: "It is of this process, which cannot hold itself, and nobody else pauses it."));
        try
        {
            watch.Run(exits, wake, cancellationToken);
        }
        catch (OperationCanceledException) when (cancellationToken.IsCancellationRequested)
        {
            // That is how it ends.
        }
        finally
        {
            foreach (var vm in watch._vms.Values)
                vm.Dispose();
        }
    }

    private static long Now => Environment.TickCount64;

    private void Run(KvmTrace exits, SafeDescriptor wake, CancellationToken cancellationToken)
    {
        foreach (var machine in VMDiscovery.All().OfType<ProcessMachine>())
            Add(machine, wake, cancellationToken);
        _metrics?.Write();
        var count = -1;
        long? exitsAt = null;
        while (!cancellationToken.IsCancellationRequested)
        {
            if (count != _vms.Count)
                _options.Begun?.Invoke(count = _vms.Count);
            var readable = Wait(exitsAt is null ? exits : null, wake, exitsAt);
            TakeSleep(wake, cancellationToken);
            ReadClocks();
            while (_unread.TryDequeue(out var occurred))
                Take(occurred);
            exitsAt = TakeExits(exits, exitsAt, readable.Contains(exits.Descriptor));
            DoWhatIsDue(wake, cancellationToken);
            RemoveEnded(readable);
            while (_told.TryDequeue(out var told))
                _tell(told);
            while (_resumed.TryDequeue(out var vm))
                vm.LookAt ??= vm.HasNews ? Now + SettlingMilliseconds : null; // its guest may have written its TSC as soon as it was let go
            WriteMetrics();
        }
    }

    /// <summary>
    /// This host may have slept: KVM moves offsets where its TSC began anew, which is an event. For how long it slept it may not know itself. Whoever is found from now on is judged by
    /// the same lines as those that are known.
    /// </summary>
    private void TakeSleep(SafeDescriptor wake, CancellationToken cancellationToken)
    {
        const ulong Noticeable = 1_000_000;
        var (before, now) = (_awake, HostClock.ReadAll());
        _awake = now;
        var beganAnew = now.Now.HostTsc + LocalHost.Tsc.KHz < before.Now.HostTsc; // two CPUs' TSCs are not a millisecond apart
        if (!beganAnew && now.Suspended < before.Suspended + Noticeable)
            return;
        if (beganAnew)
            _clocks.Restart();
        var here = LocalHost.Identify(LocalHost.Tsc.KHz);
        _lines.CarryOver(here);
        foreach (var vm in _vms.Values)
            vm.Wake(here);
        foreach (var machine in VMDiscovery.All().OfType<ProcessMachine>()) // of which an event told that was not read
            Add(machine, wake, cancellationToken);
    }

    private void WriteMetrics()
    {
        try
        {
            _metrics?.Write();
            _isCounted = true;
        }
        catch (KvmException exception)
        {
            if (_isCounted)
                _tell(KvmClockEvent.Of(KvmClockEventKind.NotWritten, null, exception));
            _isCounted = false;
        }
    }

    private IReadOnlyList<TraceEvent> ReadClocks()
    {
        var events = _clocks.Read();
        foreach (var occurred in events)
            _unread.Enqueue(occurred);
        return events;
    }

    /// <summary>What a VM that is stopped just now did until then: it is judged by that.</summary>
    private void CatchUp(WatchedVM vm)
    {
        foreach (var occurred in ReadClocks().Where(occurred => occurred.Kind != TraceEventKind.Lost && ProcessOf(occurred.ThreadId) == vm.Machine.Identity.ProcessId))
            vm.Note(occurred);
    }

    private IReadOnlySet<int> Wait(KvmTrace? exits, SafeDescriptor wake, long? exitsAt)
    {
        List<int> descriptors = [wake.Number, _clocks.Descriptor, .. _vms.Values.Select(vm => vm.Process.Number)];
        if (exits is not null)
            descriptors.Add(exits.Descriptor);
        var looks = _vms.Values.Where(vm => !vm.IsArmed).SelectMany(vm => new[] { vm.LookAt, vm.PauseLookAt }); // of one that is held we are told
        var due = looks.Append(exitsAt).Append(_unread.Count > 0 ? Now : null).Concat(_discoverAt.Values.Select(at => (long?)at)).Min();
        var readable = LibC.Poll([.. descriptors], due is { } at ? (int)Math.Clamp(at - Now, 0, int.MaxValue) : -1);
        if (readable.Contains(wake.Number))
            LibC.TakeSignal(wake);
        return readable;
    }

    /// <summary>Exits are many, and only tell that it may be worth a look: they are gathered for a while.</summary>
    private long? TakeExits(KvmTrace exits, long? exitsAt, bool hasSome)
    {
        if (exitsAt is null)
            return hasSome ? Now + GatheringMilliseconds : null;
        if (exitsAt > Now)
            return exitsAt;
        foreach (var process in exits.Read().Select(occurred => ProcessOf(occurred.ThreadId)).Distinct())
        foreach (var vm in Of(process).Where(vm => !vm.IsArmed))
        {
            if (vm.PausedLooks == 0)
                vm.PauseLookAt = Now;
            (vm.VainLooks, vm.MostVainLooks) = (0, MostLooks);
        }

        return null;
    }

    private void Take(TraceEvent occurred)
    {
        if (occurred.Kind == TraceEventKind.Lost)
        {
            _tell(new KvmClockEvent(KvmClockEventKind.EventsLost, null));
            foreach (var vm in _vms.Values)
                vm.LookAt = Now;
            return;
        }

        var process = ProcessOf(occurred.ThreadId);
        var vms = Of(process).ToArray();
        if (vms.Length == 0 && process != Environment.ProcessId)
            _discoverAt.TryAdd(process, Now + CreationMilliseconds);
        foreach (var vm in vms.Where(vm => vm.Note(occurred) && !vm.IsArmed))
            vm.LookAt = occurred.Kind == TraceEventKind.MasterClock ? Now : Math.Min(vm.LookAt ?? long.MaxValue, Now + SettlingMilliseconds);
    }

    private void DoWhatIsDue(SafeDescriptor wake, CancellationToken cancellationToken)
    {
        foreach (var process in _discoverAt.Where(discover => discover.Value <= Now).Select(discover => discover.Key).ToArray())
        {
            _discoverAt.Remove(process);
            foreach (var machine in VMDiscovery.Seen(process))
                Add(machine, wake, cancellationToken);
        }

        foreach (var vm in _vms.Values.Where(vm => !vm.IsArmed).ToArray())
        {
            if (vm.TakeFailureToHold())
                vm.LookAt = Now;
            if (vm.LookAt <= Now)
                Look(vm, wake, cancellationToken);
            if (vm.PauseLookAt <= Now)
                LookForPause(vm, wake);
        }
    }

    private void Look(WatchedVM vm, SafeDescriptor wake, CancellationToken cancellationToken)
    {
        vm.TakeVcpus();
        if (!vm.Machine.GuestHasRun)
        {
            AwaitGuest(vm, wake);
            return;
        }

        if (vm.AwaitsClock)
        {
            vm.LookAt = vm.IsPaused ? null : Now + SettlingMilliseconds;
            return;
        }

        var wasPaused = vm.IsPaused;
        var events = vm.Look(CatchUp, cancellationToken);
        if (wasPaused && !vm.LooksPaused())
        {
            vm.Resume();
            _tell(new KvmClockEvent(KvmClockEventKind.Resumed, vm.Machine.Identity));
        }

        foreach (var occurred in events)
            _tell(occurred);
    }

    private void LookForPause(WatchedVM vm, SafeDescriptor wake)
    {
        vm.PauseLookAt = null;
        if (!vm.LooksPaused())
        {
            vm.PausedLooks = 0;
            if (!vm.IsPaused)
            {
                LookAgain(vm);
                return;
            }

            vm.Resume();
            _tell(new KvmClockEvent(KvmClockEventKind.Resumed, vm.Machine.Identity));
            return;
        }

        if (vm.IsPaused)
            return;
        if (++vm.PausedLooks < PausedLooks)
        {
            vm.PauseLookAt = Now + GatheringMilliseconds;
            return;
        }

        vm.PausedLooks = 0;
        if (vm.History.Current is null || !vm.Machine.GuestHasRun)
            return;
        if (!vm.MarkPaused())
        {
            LookAgain(vm);
            return;
        }

        _tell(new KvmClockEvent(KvmClockEventKind.Paused, vm.Machine.Identity));
        Arm(vm, wake);
    }

    /// <summary>
    /// What takes its vCPUs out of the guest may only have begun; and where others have the CPUs, a thread that has left the guest, of which no further event tells, is long
    /// on its way to where it waits.
    /// </summary>
    private static void LookAgain(WatchedVM vm) => vm.PauseLookAt = Later(GatheringMilliseconds, ++vm.VainLooks, vm.MostVainLooks);

    /// <summary>When it is looked again after so many looks in vain, ever later; null if those were enough.</summary>
    private static long? Later(long milliseconds, int looks, int most) => looks < most ? Now + (milliseconds << (looks - 1)) : null;

    /// <summary>
    /// Its guest has not run yet; its first entry there is another event. It may have been saved, or move here: then that entry is held, as soon as all vCPUs that it had
    /// are there, and the threads that are to run them, of which no event tells.
    /// </summary>
    private void AwaitGuest(WatchedVM vm, SafeDescriptor wake)
    {
        vm.LookAt = null;
        if (!vm.MayBeSuccessor)
            return;
        if (vm.IsSuccessor && KnowsVcpuThreads(vm.Machine))
            Arm(vm, wake);
        else
            vm.LookAt = Later(SettlingMilliseconds, ++vm.LooksBeforeGuest, MostLooks);
    }

    private void Arm(WatchedVM vm, SafeDescriptor wake) => vm.Arm(events =>
    {
        foreach (var occurred in events)
            _told.Enqueue(occurred);
        _resumed.Enqueue(vm);
        LibC.Signal(wake);
    });

    private void Add(ProcessMachine machine, SafeDescriptor wake, CancellationToken cancellationToken)
    {
        if (_vms.ContainsKey(machine.Identity.Id) || _options.PolicyOf(machine.Identity.Name) is not { } policy || LibC.PidfdOpen(machine.Identity.ProcessId) is not { } process)
            return;
        var vm = new WatchedVM(machine, process, policy, _options.Acts, _lines);
        _vms.Add(machine.Identity.Id, vm);
        var events = machine.GuestHasRun ? vm.Look(CatchUp, cancellationToken) : [];
        _tell(new KvmClockEvent(KvmClockEventKind.Found, machine.Identity, stoppedMicroseconds: machine.GuestHasRun ? vm.History.Current?.StoppedMicroseconds : null));
        foreach (var occurred in events)
            _tell(occurred);
        if (!machine.GuestHasRun)
            AwaitGuest(vm, wake);
        (vm.PauseLookAt, vm.MostVainLooks) = (Now, MostFirstLooks);
    }

    private static bool KnowsVcpuThreads(ProcessMachine machine)
    {
        try
        {
            return ((AttachedExecutor)machine.Executor).KnowsVcpuThreads();
        }
        catch (KvmException)
        {
            return false; // whoever works in it will say why not
        }
    }

    private void RemoveEnded(IReadOnlySet<int> readable)
    {
        foreach (var (id, vm) in _vms.Where(vm => readable.Contains(vm.Value.Process.Number)).ToArray())
        {
            _vms.Remove(id);
            vm.Dispose();
            _tell(new KvmClockEvent(KvmClockEventKind.Ended, vm.Machine.Identity));
        }
    }

    private IEnumerable<WatchedVM> Of(int processId) => _vms.Values.Where(vm => vm.Machine.Identity.ProcessId == processId);

    private int ProcessOf(int threadId)
    {
        if (_processes.TryGetValue(threadId, out var known) && Directory.Exists($"/proc/{known}/task/{threadId}"))
            return known;
        if (_processes.Count > MostKnownThreads)
            _processes.Clear();
        var process = ProcessStatus.Read($"/proc/{threadId}")?.ProcessId ?? 0;
        _processes[threadId] = process;
        return process;
    }
}
