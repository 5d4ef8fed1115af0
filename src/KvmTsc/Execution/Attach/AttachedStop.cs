using System.Diagnostics;
using System.Runtime.InteropServices;
using KvmTsc.Interop;

namespace KvmTsc.Execution.Attach;

/// <summary>
/// A VM of another process, its vCPU threads stopped outside of <c>KVM_RUN</c>. One of them, the carrier, runs the payload; the others
/// are diverted to a hold, so that they wait for the batch's end even if we die and the kernel lets all of them go. Everything has to be
/// called on the thread that began it: ptrace belongs to a thread.
/// </summary>
internal sealed class AttachedStop : IVMStop
{
    private const int SysMmap = 9;
    private const int SysMunmap = 11;
    private const int SysTgkill = 234;
    private const int MapFixedNoReplace = 0x100000;

    /// <summary>For how long a thread may wait for what no signal ends (state D), while the others stand still.</summary>
    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(2);

    private readonly AttachedExecutor _executor;
    private readonly AttachPreparation _preparation;
    private readonly List<Tracee> _threads = [];
    private readonly List<Tracee> _late = [];
    private readonly Stopwatch _clock;
    private readonly ResumeWatch? _watch;
    private Tracee? _carrier;
    private SignalFrames? _frames;
    private DotNetChildren? _children;
    private IReadOnlyList<int>? _lenders;
    private PayloadImage? _next;
    private UserRegs _home;
    private bool _isInFlight;
    private bool _isAtPayload;
    private bool _disposed;
    private double _stopped;
    private double _running;

    private AttachedStop(AttachedExecutor executor, AttachPreparation preparation, ResumeWatch? watch = null)
    {
        _executor = executor;
        _preparation = preparation;
        _watch = watch;
        _clock = watch?.SinceFirst ?? new Stopwatch();
    }

    /// <inheritdoc/>
    public double StoppedMicroseconds { get; private set; }

    private ulong Data => _preparation.Address + Payload.DataOffset;

    private int HoldCount => Math.Max(0, _threads.Count - 1);

    private IEnumerable<Tracee> Held => _threads.Where(thread => thread != _carrier);

    /// <summary>Stops the VM; null if none of its threads can carry a batch at this instant, and it goes on as it did.</summary>
    public static AttachedStop? TryStop(AttachedExecutor executor, AttachPreparation preparation, IoctlBatch? first)
    {
        var stop = new AttachedStop(executor, preparation);
        return stop.TryBegin(() =>
        {
            LibC.IgnoreChildStops();
            stop.Seize();
            if (first is not null)
                stop._next = stop.ImageOf(first);
            Precedence.Take();
            stop._clock.Start();
            stop.Interrupt();
        });
    }

    /// <summary>Takes over the vCPUs that a watch holds; the watch ends with the stop.</summary>
    public static AttachedStop Of(AttachedExecutor executor, AttachPreparation preparation, ResumeWatch watch)
    {
        var stop = new AttachedStop(executor, preparation, watch);
        stop._threads.AddRange(watch.HandOver());
        var begun = stop.TryBegin(() =>
        {
            preparation.Refresh();
            Precedence.Take();
        });
        return begun ?? throw AttachErrors.Failed($"No vCPU thread of {preparation.Target.VMName} could be borrowed.");
    }

    /// <summary>Stops the threads and holds them; where that fails, all go on.</summary>
    private AttachedStop? TryBegin(Action stopThreads)
    {
        try
        {
            stopThreads();
            if (Hold())
                return this;
        }
        catch
        {
            Dispose();
            throw;
        }

        Dispose();
        return null;
    }

    /// <inheritdoc/>
    public BatchOutcome Run(IoctlBatch batch)
    {
        var began = Elapsed;
        var image = _next?.Batch == batch ? _next : Place(ImageOf(batch));
        _next = null;

        Arm(image);
        _carrier!.Resume(0);
        if (!MayNeedUs)
            Precedence.GiveWayTo(_carrier.ThreadId);
        AwaitCarrier();
        var outcome = image.ReadBack(Data);
        _running += Elapsed - began;
        return outcome;
    }

    /// <summary>
    /// Whether the carrier may wait for what we have to do: stop a vCPU that runs for the first time; or, if its process ends and it is its first thread,
    /// bury the others, before which the kernel does not tell.
    /// </summary>
    private bool MayNeedUs => !_preparation.KnowsAll || _carrier!.ThreadId == _preparation.Target.ProcessId;

    /// <summary>Brings every thread back to where it was, and lets it go.</summary>
    public void Dispose()
    {
        if (_disposed)
            return;
        _disposed = true;
        using var children = _children;
        var began = Elapsed;
        foreach (var thread in Enumerable.Reverse(_threads).Where(thread => thread != _carrier && thread.IsStopped))
            Release(thread);
        if (_carrier is { } carrier)
            ReleaseCarrier(carrier);

        // One that did not stop can be let go only when it does. The others do not wait for that.
        foreach (var thread in Enumerable.Reverse(_threads).Concat(_late))
            thread.Detach();
        _clock.Stop();
        Precedence.GiveBack();
        StoppedMicroseconds = _clock.Elapsed.TotalMicroseconds;
        _watch?.Dispose();
        EndedThreads.Await();
        _executor.LastPhases = new AttachPhases(_stopped, _running, Elapsed - began);
        _preparation.Dispose();
    }

    private double Elapsed => _clock.Elapsed.TotalMicroseconds;

    private void Seize()
    {
        SeizeAll(_preparation.VcpuThreads ?? _preparation.ThreadIds());
        _preparation.RequireSameProcess();
        if (_threads.Count == 0)
            _lenders = _preparation.FindLenders();
        if (_threads.Count > Payload.MaximumHolds)
            throw AttachErrors.Failed($"{_preparation.Target.VMName} has {_threads.Count} threads, more than can be held.");
    }

    /// <summary>Seizes the threads that are to stand still, and are not seized yet; returns whether there were any.</summary>
    private bool SeizeNew()
    {
        var before = _threads.Count;
        SeizeAll((_preparation.VcpuThreads is null ? _preparation.ThreadIds() : _preparation.FindStarted()) ?? []);
        return _threads.Count > before;
    }

    /// <summary>
    /// The first thread comes last, and goes first: as long as it is traced, the kernel does not drop the process's ignored signals,
    /// and they end waits of threads that are not ours to restart.
    /// </summary>
    private void SeizeAll(IReadOnlyList<int> threadIds)
    {
        var first = _preparation.Target.ProcessId;
        foreach (var id in threadIds.OrderBy(id => id == first))
        {
            if (Seize(id) is { } thread)
                _threads.Add(thread);
        }
    }

    /// <summary>Seizes a thread; null if it is already, or has ended.</summary>
    private Tracee? Seize(int threadId)
    {
        if (_threads.Concat(_late).Any(thread => thread.ThreadId == threadId) || _preparation.StatusOf(threadId) is not { } status)
            return null;
        if (threadId == _preparation.Target.ProcessId)
            _children ??= DotNetChildren.LeaveAlone(threadId);
        if (Tracee.Seize(threadId, status.InnermostId, 0, out var errno) is { } thread)
            return thread;
        return _preparation.HasEnded(threadId) ? null : throw AttachErrors.Denied(_preparation.Target, errno);
    }

    /// <summary>Stops the threads. As soon as one is there that was in the guest, it begins its flight; the others arrive meanwhile.</summary>
    private void Interrupt()
    {
        var interrupted = 0;
        do
        {
            for (var i = interrupted; i < _threads.Count; i++)
                _threads[i].Interrupt();
            for (var i = interrupted; i < _threads.Count; i++)
                Await(_threads[i]);
            interrupted = _threads.Count;
        }
        while (SeizeNew());

        foreach (var thread in _threads.FindAll(thread => thread.IsGone))
        {
            thread.Detach();
            _threads.Remove(thread);
        }

        RequireNoGroupStop();
    }

    private void RequireNoGroupStop()
    {
        if (_threads.Exists(thread => thread.IsInGroupStop))
            throw AttachErrors.Unsupported($"{_preparation.Target.VMName} is stopped by a signal (SIGSTOP).", $"Let it go on first: kill -CONT {_preparation.Target.ProcessId}.");
    }

    private void Await(Tracee thread)
    {
        if (!thread.TryAwaitStop(s_patience))
            throw AttachErrors.Stuck(_preparation.Target, thread.ThreadId);
        if (thread.IsGone)
            return;
        thread.ReadRegs();
        thread.RestartInterrupted();
        if (_carrier is null && thread.CarrierRank == 0 && !thread.IsInGroupStop)
            TryBecomeCarrier(thread);
    }

    /// <summary>
    /// Has the payload in place, unarmed, and all other threads diverted to their holds; false if no thread can carry it, or one cannot be
    /// diverted. The carrier is best a thread that was in the guest: it returns from <c>KVM_RUN</c> with EINTR, which every VMM knows. A thread
    /// whose system call the kernel restarts by a restart block cannot return from a signal frame, since that ends the restarting.
    /// </summary>
    private bool Hold()
    {
        // A carrier that flies already was in a system call.
        if (_threads.Exists(thread => thread.IsInRestartableSequence(_preparation.Memory)))
            return false;
        if (_carrier is null && !_threads.Where(thread => thread.CarrierRank >= 0).OrderBy(thread => thread.CarrierRank).Any(TryBecomeCarrier) && !TryBorrow())
            return false;
        AwaitCarrier();
        _isInFlight = false;
        Write(_preparation.Address, Payload.Code(HoldCount), "the payload's memory");

        // From here on the carrier goes home by the payload's code, which leaves the memory mapped: by its frames it would unmap it, and others
        // are there soon.
        _next = Place(_next?.HoldCount == HoldCount ? _next : ImageOf(_next?.Batch ?? new IoctlBatch()));
        _isAtPayload = true;
        var index = 0;
        foreach (var thread in Held)
            thread.Divert(_preparation.Address + (ulong)Payload.HoldOffset(index++));
        _stopped = Elapsed;
        return true;
    }

    /// <summary>
    /// Has a thread carry that runs no vCPU, one stopped after the other until one can: of a VM that never ran no other is known, and those of vCPUs may
    /// be such that they cannot.
    /// </summary>
    private bool TryBorrow()
    {
        foreach (var id in _lenders ?? _preparation.FindLenders())
        {
            if (Seize(id) is not { } thread)
                continue;
            _threads.Add(thread);
            thread.Interrupt();
            Await(thread);
            RequireNoGroupStop();
            if (!thread.IsGone && thread.CarrierRank >= 0 && !thread.IsInRestartableSequence(_preparation.Memory) && (thread == _carrier || TryBecomeCarrier(thread)))
                return true;
            _threads.Remove(thread);
            thread.Detach();
        }

        return false;
    }

    /// <summary>
    /// Has a thread map the payload's memory. From here on it comes home by itself: its frames unmap that memory and return to where it was.
    /// </summary>
    private bool TryBecomeCarrier(Tracee thread)
    {
        if (thread.Regs.Cs != UserRegs.Code64)
            throw AttachErrors.Unsupported($"{_preparation.Target.VMName} runs in a 32-bit process.", "Run a 64-bit VMM.");
        _home = thread.Home;
        _frames = new SignalFrames(_preparation.Instructions, _home, thread.ReadSignalMask(), FlightMask, thread.ReadXstate(), Flight(thread));
        if (!_preparation.Maps.IsWritable(_frames.Address, _home.Rsp))
            return false;
        _carrier = thread;
        if (_preparation.SuspendsSeccomp)
            thread.SetOptions(LibC.PTRACE_O_SUSPEND_SECCOMP);
        Write(_frames.Address, _frames.Bytes, "the stack");
        thread.WriteRegs(_frames.StartWith(MapCode));
        thread.IsDiverted = true;
        thread.WriteSignalMask(FlightMask);
        _isInFlight = true;
        thread.Resume(0);
        return true;
    }

    private ulong FlightMask => ~(1UL << (_preparation.Signal - 1));

    private SignalFrames.Call MapCode => new(
        SysMmap, _preparation.Address, Payload.DataOffset, LibC.PROT_READ | LibC.PROT_EXEC,
        LibC.MAP_PRIVATE | LibC.MAP_ANONYMOUS | MapFixedNoReplace, ulong.MaxValue);

    private SignalFrames.Call Unmap => new(SysMunmap, _preparation.Address, (ulong)_preparation.Length);

    private SignalFrames.Call[] Flight(Tracee thread) =>
    [
        new(SysMmap, Data, (ulong)_preparation.DataLength, LibC.PROT_READ | LibC.PROT_WRITE, LibC.MAP_PRIVATE | LibC.MAP_ANONYMOUS | MapFixedNoReplace, ulong.MaxValue),
        new(SysTgkill, (ulong)_preparation.ProcessInnermostId, (ulong)thread.InnermostId, (ulong)_preparation.Signal),
        Unmap,
    ];

    private PayloadImage ImageOf(IoctlBatch batch) => new(_preparation, batch, HoldCount);

    /// <summary>Writes a batch, unarmed and with open holds, and has the carrier stand before it.</summary>
    private PayloadImage Place(PayloadImage image)
    {
        image.Complete(Held, _carrier!.InnermostId, _frames!.Last);
        Write(Data, image.Bytes, "the payload's data");
        _carrier.WriteRegs(Entry());
        return image;
    }

    /// <summary>
    /// Only now, with the carrier on its way, may anybody wait for it. What is in one page is written at once or not, even by one who dies
    /// meanwhile; where it is not, the holds are closed first, which the carrier opens in any case.
    /// </summary>
    private void Arm(PayloadImage image)
    {
        const int PageSize = 4096;
        var armed = image.Armed;
        if (armed.Length > PageSize)
        {
            Write(Data + Payload.HoldsOffset, armed[Payload.HoldsOffset..], "the holds");
            armed = armed[..Payload.HoldsOffset];
        }

        Write(Data, armed, "the payload's data");
    }

    private UserRegs Entry()
    {
        var regs = _home;
        (regs.OrigRax, regs.Rip, regs.Eflags) = (ulong.MaxValue, _preparation.Address, 0x202);
        (regs.Rbx, regs.Rsp) = (Data, _frames!.Address);
        return regs;
    }

    private void AwaitCarrier()
    {
        if (!_carrier!.AwaitSignal(_preparation.Signal, _preparation.ProcessInnermostId, StopStarted))
        {
            throw _carrier.IsGone
                ? new KvmException(KvmErrorId.ProcessGone, $"{_preparation.Target.VMName} ended while it was worked in.", "List the VMs there are with Get-KvmVM.")
                : AttachErrors.Failed($"The batch in {_preparation.Target.VMName} was interrupted by a signal.");
        }
    }

    /// <summary>Stops vCPUs that run for the first time while we are at work: they keep what the carrier waits for.</summary>
    private void StopStarted()
    {
        foreach (var id in _preparation.FindStarted() ?? [])
        {
            if (Seize(id) is not { } thread)
                continue;
            _late.Add(thread);
            thread.Interrupt();
        }
    }

    private void Write(ulong address, ReadOnlySpan<byte> bytes, string what)
    {
        var result = LibC.Pwrite(_preparation.Memory, bytes, address);
        if (result < 0)
            throw AttachErrors.Failed($"Writing {what} in {_preparation.Target.VMName} failed: {Marshal.GetPInvokeErrorMessage(-result)}.");
    }

    private static void Release(Tracee thread)
    {
        try
        {
            if (thread.IsDiverted)
                thread.WriteRegs(thread.Regs);
        }
        catch (KvmException)
        {
            // It has ended, or else comes home by the hold, as it would without us: the others have to go on in any case.
        }

        thread.Detach();
    }

    private void ReleaseCarrier(Tracee carrier)
    {
        try
        {
            if (_isInFlight)
                AwaitCarrier();

            // Where the payload was not in place yet, the frames lead home from where the carrier stands.
            if (_isAtPayload)
                carrier.WriteRegs(_frames!.EndWith(Unmap));
            if (_preparation.SuspendsSeccomp && carrier.IsDiverted)
                carrier.RunTo(_home.Rip);
        }
        catch (KvmException)
        {
            // It has ended, or else comes home by the payload's own code.
        }

        carrier.Detach();
    }
}
