using System.Diagnostics;
using KvmTsc.Interop;

namespace KvmTsc.Execution.Attach;

/// <summary>
/// A VM of another process, its vCPU threads stopped outside of <c>KVM_RUN</c>. One of them, the carrier, runs the payload; the others
/// are diverted to a hold, so that they wait for the batch's end even if we die and the kernel lets all of them go. Everything has to be
/// called on the thread that began it: ptrace belongs to a thread.
/// </summary>
internal sealed class AttachedStop : IVMStop, IDisposable
{
    private readonly AttachedExecutor _executor;
    private readonly AttachPreparation _preparation;
    private readonly StoppedThreads _threads;
    private readonly SeccompJudge _seccomp;
    private readonly Stopwatch _clock;
    private readonly ResumeWatch? _watch;
    private Carrier? _carrier;
    private PayloadImage? _next;
    private bool _disposed;
    private double _waited;
    private double _stopped;
    private double _running;

    private AttachedStop(AttachedExecutor executor, AttachPreparation preparation, ResumeWatch? watch = null)
    {
        _executor = executor;
        _preparation = preparation;
        _threads = new StoppedThreads(preparation);
        _seccomp = new SeccompJudge(preparation);
        _watch = watch;
        _clock = watch?.SinceFirst ?? new Stopwatch();
    }

    /// <summary>For how long a running VMM was stopped, in microseconds: known once disposed of.</summary>
    public double StoppedMicroseconds { get; private set; }

    private int HoldCount => Math.Max(0, _threads.All.Count - 1);

    private IEnumerable<Tracee> Held => _threads.All.Where(thread => thread != _carrier?.Thread);

    /// <summary>Stops the VM; null if none of its threads can carry a batch at this instant, and it goes on as it did.</summary>
    public static AttachedStop? TryStop(AttachedExecutor executor, AttachPreparation preparation, IoctlBatch? first)
    {
        var stop = new AttachedStop(executor, preparation);
        return stop.TryBegin(() =>
        {
            LibC.IgnoreChildStops();
            stop._threads.Seize();
            if (first is not null)
                stop._next = stop.ImageOf(first);
            Precedence.Take();
            stop._clock.Start();
            stop._threads.Interrupt(stop.Welcome);
        });
    }

    /// <summary>Takes over the vCPUs that a watch holds; the watch ends with the stop.</summary>
    public static AttachedStop Of(AttachedExecutor executor, AttachPreparation preparation, ResumeWatch watch)
    {
        var stop = new AttachedStop(executor, preparation, watch);
        stop._waited = stop.Elapsed;
        stop._threads.TakeOver(watch.HandOver());
        var begun = stop.TryBegin(Precedence.Take);
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
        var image = _next?.Batch == batch ? _next : _carrier!.Place(ImageOf(batch), Held);
        _next = null;

        _carrier!.Arm(image);
        _carrier.Thread.Resume(0);
        if (!MayNeedUs)
            Precedence.GiveWayTo(_carrier.Thread.ThreadId);
        _carrier.AwaitBatch(_threads.StopStarted);
        var outcome = _carrier.ReadBack(image);
        _running += Elapsed - began;
        return outcome;
    }

    /// <summary>
    /// Whether the carrier may wait for what we have to do: stop a vCPU that runs for the first time; or, if its process ends and it is its first thread,
    /// bury the others, before which the kernel does not tell.
    /// </summary>
    private bool MayNeedUs => !_preparation.KnowsAll || _carrier!.Thread.ThreadId == _preparation.Target.ProcessId;

    /// <summary>Brings every thread back to where it was, and lets it go.</summary>
    public void Dispose()
    {
        if (_disposed)
            return;
        _disposed = true;
        using var threads = _threads;
        var began = Elapsed;
        _threads.ReleaseAllBut(_carrier?.Thread, stayHeld: _carrier?.IsLateWithBatch == true);
        _carrier?.Release(_threads.StopStarted);
        _threads.ReleaseRest();
        _clock.Stop();
        Precedence.GiveBack();
        StoppedMicroseconds = _clock.Elapsed.TotalMicroseconds;
        _watch?.Dispose();
        EndedThreads.Await();
        _executor.LastPhases = new AttachPhases(_waited, _stopped, _running, Elapsed - began);
        _preparation.Dispose();
    }

    private double Elapsed => _clock.Elapsed.TotalMicroseconds;

    /// <summary>As soon as a thread is there that was in the guest, it begins its flight; the others arrive meanwhile.</summary>
    private void Welcome(Tracee thread)
    {
        if (_carrier is null && thread.CarrierRank == 0 && !thread.IsInGroupStop && !_seccomp.Forbids(thread))
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
        if (_threads.All.Exists(thread => thread.IsInRestartableSequence(_preparation.Memory)))
            return false;
        if (_carrier is null && !Candidates().Any(TryBecomeCarrier) && !TryBorrow())
            return false;
        _executor.DeathIsLethal = _carrier!.SuspendsSeccomp;
        _carrier!.Land(HoldCount, _threads.StopStarted);
        _next = _carrier.Place(_next?.HoldCount == HoldCount ? _next : ImageOf(_next?.Batch ?? new IoctlBatch()), Held);
        var index = 0;
        foreach (var thread in Held)
            thread.Divert(_preparation.Address + (ulong)Payload.HoldOffset(index++));
        _stopped = Elapsed - _waited;
        return true;
    }

    private IEnumerable<Tracee> Candidates() =>
        _threads.All.Where(thread => thread.CarrierRank >= 0).OrderBy(_seccomp.Forbids).ThenBy(thread => thread.CarrierRank);

    /// <summary>
    /// Has a thread carry that runs no vCPU: of a VM that never ran no other is known, and those of vCPUs may be such that they cannot.
    /// </summary>
    private bool TryBorrow() => _threads.TryBorrow(
        Welcome,
        thread => thread.CarrierRank >= 0
            && !thread.IsInRestartableSequence(_preparation.Memory)
            && (thread == _carrier?.Thread || TryBecomeCarrier(thread)));

    private bool TryBecomeCarrier(Tracee thread)
    {
        _carrier = new Carrier(_preparation, thread, _seccomp.Forbids(thread));
        if (_carrier.TryStart())
            return true;
        _carrier = null;
        return false;
    }

    private PayloadImage ImageOf(IoctlBatch batch) => new(_preparation, batch, HoldCount);
}
