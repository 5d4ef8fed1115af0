using System.Runtime.InteropServices;
using KvmTsc.Interop;
using KvmTsc.Processes;

namespace KvmTsc.Execution.Attach;

/// <summary>
/// The thread that runs the payload. It maps the payload's memory itself, and from then on comes home by itself, whatever becomes of us: first by
/// its frames, which unmap that memory and return to where it was, then by the payload's code.
/// </summary>
internal sealed class Carrier
{
    private const int SysOpen = 2;
    private const int SysClose = 3;
    private const int SysMmap = 9;
    private const int SysMunmap = 11;
    private const int SysSigreturn = 15;
    private const int SysTgkill = 234;
    private const int MapFixedNoReplace = 0x100000;

    private static readonly TimeSpan s_patienceForBatch = TimeSpan.FromSeconds(10);

    private readonly AttachPreparation _preparation;
    private readonly UserRegs _home;
    private readonly ulong _homeMask;
    private SignalFrames _frames;
    private bool _isInFlight;
    private bool _isAtPayload;
    private bool _isAstray;
    private bool _isLate;

    /// <summary>Prepares a thread that stands still.</summary>
    /// <param name="preparation">What was found out before.</param>
    /// <param name="thread">The thread.</param>
    /// <param name="suspendsSeccomp">Whether its seccomp filter forbids what it is to do.</param>
    public Carrier(AttachPreparation preparation, Tracee thread, bool suspendsSeccomp)
    {
        if (thread.Regs.Cs != UserRegs.Code64)
            throw AttachErrors.Unsupported($"{preparation.Target.VMName} runs in a 32-bit process.", "Run a 64-bit VMM.");
        _preparation = preparation;
        Thread = thread;
        SuspendsSeccomp = suspendsSeccomp;
        _home = thread.Home;
        _homeMask = thread.ReadSignalMask();
        _frames = Frames(Flight(preparation, thread.InnermostId));
    }

    /// <summary>The thread.</summary>
    public Tracee Thread { get; }

    /// <summary>Whether its seccomp filter forbids what it is to do, and is suspended: until it comes home, or we die.</summary>
    public bool SuspendsSeccomp { get; }

    /// <summary>Whether it is on its way with a batch that takes too long: it finishes it without us.</summary>
    public bool IsLateWithBatch => _isLate && _isAtPayload;

    private ulong Data => _preparation.Address + Payload.DataOffset;

    /// <summary>Has it map the payload's memory. From here on it comes home by itself.</summary>
    /// <returns>False, with nothing changed, if there is no room on its stack.</returns>
    public bool TryStart()
    {
        if (!_preparation.Instructions.AreIn(_preparation.Memory))
            throw AttachErrors.Failed($"The code of {_preparation.Target.VMName} that was to be used was replaced meanwhile.");
        if (!LibC.TryWriteMemory(Thread.ThreadId, _frames.Bytes, _frames.Address))
            return false;
        // A thread that stands at a system call, as it does on these ways, when we die is sent by the kernel the signal that it stopped with: SIGTRAP,
        // which would be pending or end its process, unless it is told to stop with what is no signal.
        if (SuspendsSeccomp || _preparation.MapsFile)
            Thread.SetOptions(LibC.PTRACE_O_TRACESYSGOOD | (SuspendsSeccomp ? LibC.PTRACE_O_SUSPEND_SECCOMP : 0));
        int? file = _preparation.MapsFile ? OpenFile() : null;
        Divert(_frames.StartWith(MapCode(_preparation, file)));
        _isInFlight = true;
        Thread.Resume(0);
        return true;
    }

    /// <summary>
    /// Sends it on its way. The mask comes last: should we die between the two, the frames bring its own one back, but nothing would to a thread that is still
    /// where it was. A handler that runs on the way for want of the mask finds a stack like any other.
    /// </summary>
    private void Divert(UserRegs regs)
    {
        Thread.IsDiverted = true;
        Thread.WriteRegs(regs);
        Thread.WriteSignalMask(FlightMask);
    }

    /// <summary>
    /// Has it open its own program, of which private memory is executable where no other may be (SELinux execmem), and goes on from there with the
    /// frames that map it. A death in between leaves a descriptor, which no program that the VMM starts would have.
    /// </summary>
    private int OpenFile()
    {
        const int CloseOnExec = 0x80000;
        var path = "/proc/self/exe\0"u8;
        var frames = Frames();
        var pathAddress = (frames.Address - (ulong)path.Length) & ~7UL;
        Write(frames.Address, frames.Bytes, "the stack");
        Write(pathAddress, path, "the stack");
        Divert(frames.StartWith(new SignalFrames.Call(SysOpen, pathAddress, CloseOnExec)));
        var result = Thread.RunSystemCall(SysOpen, new Patience(Patience.OfStep));
        if (result is not >= 0 and var error)
        {
            (_isAstray, _isLate) = (Thread.IsStopped, !Thread.IsStopped);
            throw _isLate ? AttachErrors.Late(_preparation.Target) : AttachErrors.MayNotMap(_preparation.Target, error);
        }

        _frames = Frames(Flight(_preparation, Thread.InnermostId, result));
        Write(_frames.Address, _frames.Bytes, "the stack");
        return result.Value;
    }

    private SignalFrames Frames(params ReadOnlySpan<SignalFrames.Call> calls) =>
        new(_preparation.Instructions, _home, _homeMask, FlightMask, Thread.ReadXstate(), calls);

    /// <summary>Waits until it has mapped the memory, and puts the payload's code there.</summary>
    /// <param name="holds">How many threads are held.</param>
    /// <param name="unusual">Called now and then once it takes unusually long.</param>
    public void Land(int holds, Action unusual)
    {
        Await(Patience.OfStep, unusual);
        _isInFlight = false;
        Thread.WriteCode(Payload.Code(holds), _preparation.Address);
    }

    /// <summary>Writes a batch, unarmed and with open holds, and has the carrier stand before it.</summary>
    public PayloadImage Place(PayloadImage image, IEnumerable<Tracee> held)
    {
        image.Complete(held, Thread.InnermostId, _frames.Last);
        Write(Data, image.Bytes, "the payload's data");
        Thread.WriteRegs(Entry());

        // From here on it goes home by the payload's code, which leaves the memory mapped: by its frames it would unmap it, and others are there soon.
        _isAtPayload = true;
        return image;
    }

    /// <summary>
    /// Only now, with the carrier on its way, may anybody wait for it. What is in one page is written at once or not, even by one who dies
    /// meanwhile; where it is not, the holds are closed first, which the carrier opens in any case.
    /// </summary>
    public void Arm(PayloadImage image)
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

    /// <summary>Waits until it has run the batch.</summary>
    /// <param name="unusual">Called now and then once it takes unusually long.</param>
    public void AwaitBatch(Action unusual) => Await(s_patienceForBatch, unusual);

    private void Await(TimeSpan patience, Action unusual)
    {
        if (Thread.AwaitSignal(_preparation.Signal, _preparation.ProcessInnermostId, new Patience(patience), unusual))
            return;
        if (Thread.IsGone)
            throw new KvmException(KvmErrorId.ProcessGone, $"{_preparation.Target.VMName} ended while it was worked in.", "List the VMs there are with Get-KvmVM.");
        _isAstray = Thread.IsStopped;
        _isLate = !_isAstray;
        throw _isAstray ? AttachErrors.Failed($"The batch in {_preparation.Target.VMName} was interrupted by a signal.")
            : _isAtPayload ? AttachErrors.Unfinished(_preparation.Target)
            : AttachErrors.Late(_preparation.Target);
    }

    /// <summary>Takes over what the payload left.</summary>
    public BatchOutcome ReadBack(PayloadImage image) => image.ReadBack(Data);

    /// <summary>Brings it back to where it was, and lets it go.</summary>
    /// <param name="unusual">Called now and then once it takes unusually long.</param>
    public void Release(Action unusual)
    {
        try
        {
            if (!_isAstray && !_isLate)
                ComeHome(unusual);
        }
        catch (KvmException)
        {
            // It has ended, or else comes home by the payload's own code, unless it went astray.
        }

        if (_isAstray)
            PutHome();
        if (_isLate)
            Thread.Leave();
        else
            Thread.Detach();
    }

    /// <summary>
    /// A signal that cannot be blocked stopped it on its way, which would end its process: it is put where it was, and goes on without it. The mask comes first,
    /// as it comes last on the way out.
    /// </summary>
    private void PutHome()
    {
        try
        {
            Thread.WriteSignalMask(_homeMask);
            Thread.WriteRegs(_home);
        }
        catch (KvmException) when (Thread.IsGone)
        {
            // There is nothing to bring home.
        }
    }

    private void ComeHome(Action unusual)
    {
        if (_isInFlight)
            Await(Patience.OfStep, unusual);

        // Where the payload was not in place yet, the frames lead home from where the carrier stands.
        if (_isAtPayload)
            Thread.WriteRegs(_frames.EndWith(Unmap(_preparation)));
        if (SuspendsSeccomp && Thread.IsDiverted)
            Thread.RunTo(_home.Rip, new Patience(s_patienceForBatch));
    }

    /// <summary>All that a carrier may have to do, with the addresses that it comes from, and nobody could do for it after a death.</summary>
    public static IEnumerable<(SignalFrames.Call Call, ulong Address)> CallsIn(AttachPreparation preparation)
    {
        int? file = preparation.MapsFile ? 0 : null;
        SignalFrames.Call[] flight = [new(SysSigreturn, 0), MapCode(preparation, file), .. Flight(preparation, preparation.ProcessInnermostId, file)];
        return flight
            .Concat(file is null ? [] : [new(SysOpen, preparation.Address)])
            .Select(call => (call, preparation.Instructions.SyscallReturn))
            .Concat(Ioctls(preparation).Select(call => (call, preparation.Address)));
    }

    private static IEnumerable<SignalFrames.Call> Ioctls(AttachPreparation preparation)
    {
        var (toVM, toVcpus) = KvmRequest.OfBatches;
        var vcpu = preparation.Target.VcpuDescriptors.Values.First()[0];
        return toVM.Select(request => (preparation.Target.VMDescriptor, request))
            .Concat(toVcpus.Select(request => (vcpu, request)))
            .Select(to => new SignalFrames.Call(SystemCall.Ioctl, (uint)to.Item1, to.request, preparation.Address));
    }

    private ulong FlightMask => ~(1UL << (_preparation.Signal - 1));

    private static SignalFrames.Call Unmap(AttachPreparation preparation) => new(SysMunmap, preparation.Address, (ulong)preparation.Length);

    private static SignalFrames.Call MapCode(AttachPreparation preparation, int? file) =>
        Map(preparation.Address, Payload.DataOffset, LibC.PROT_READ | LibC.PROT_EXEC, file);

    /// <summary>What follows the mapping of the code.</summary>
    private static SignalFrames.Call[] Flight(AttachPreparation preparation, int thread, int? file = null) =>
    [
        .. file is { } descriptor ? [new SignalFrames.Call(SysClose, (ulong)descriptor)] : Array.Empty<SignalFrames.Call>(),
        Map(preparation.Address + Payload.DataOffset, preparation.DataLength, LibC.PROT_READ | LibC.PROT_WRITE, file: null),
        new(SysTgkill, (ulong)preparation.ProcessInnermostId, (ulong)thread, (ulong)preparation.Signal),
        Unmap(preparation),
    ];

    private static SignalFrames.Call Map(ulong address, int length, int protection, int? file) => new(
        SysMmap, address, (ulong)length, (ulong)protection,
        (ulong)(LibC.MAP_PRIVATE | (file is null ? LibC.MAP_ANONYMOUS : 0) | MapFixedNoReplace), file is { } descriptor ? (ulong)descriptor : ulong.MaxValue);

    private UserRegs Entry()
    {
        var regs = _home;
        (regs.OrigRax, regs.Rip, regs.Eflags) = (ulong.MaxValue, _preparation.Address, 0x202);
        (regs.Rbx, regs.Rsp) = (Data, _frames.Address);
        return regs;
    }

    private void Write(ulong address, ReadOnlySpan<byte> bytes, string what)
    {
        var result = LibC.Pwrite(_preparation.Memory, bytes, address);
        if (result < 0)
            throw AttachErrors.Failed($"Writing {what} in {_preparation.Target.VMName} failed: {Marshal.GetPInvokeErrorMessage(-result)}.");
    }
}
