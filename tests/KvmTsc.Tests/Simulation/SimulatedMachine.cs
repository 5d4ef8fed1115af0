using KvmTsc.Arithmetic;
using KvmTsc.Clocks;
using KvmTsc.Execution;
using KvmTsc.Hosts;
using KvmTsc.Machines;
using KvmTsc.Processes;

namespace KvmTsc.Tests.Simulation;

/// <summary>A VM of a simulated host, on which batches run as they do on a real one.</summary>
internal sealed class SimulatedMachine : Machine
{
    private static int s_count;
    private readonly int _number = Interlocked.Increment(ref s_count);
    private readonly List<SimulatedIoctl> _log = [];
    private bool _guestHasRun;
    private int _batches;

    public SimulatedMachine(SimulatedHost host, params IReadOnlyList<int> vcpuIds)
    {
        SimulatedHost = host;
        VcpuIds = vcpuIds;
        VM = new SimulatedVM(host, vcpuIds);
        Executor = new SimulatedExecutor(this);
    }

    public SimulatedHost SimulatedHost { get; }

    public SimulatedVM VM { get; }

    /// <summary>Every ioctl that was issued, in order.</summary>
    public IReadOnlyList<SimulatedIoctl> Log => _log;

    public IEnumerable<SimulatedIoctl> Writes => _log.Where(ioctl => ioctl.IsWrite);

    /// <summary>Gives the errno that an ioctl is to fail with, 0 to let it be.</summary>
    public Func<SimulatedIoctl, int>? Fault { get; set; }

    /// <summary>What happens right after an ioctl: something else that meddles with the VM.</summary>
    public Action<SimulatedIoctl>? Meddle { get; set; }

    public int OpenStops { get; private set; }

    public int Stops { get; private set; }

    public override VMIdentity Identity => new($"vm{_number}", 4000 + _number, $"{4000 + _number}:7");

    public override string Vmm => "simulated";

    public override IReadOnlyList<int> VcpuIds { get; }

    public override IVMExecutor Executor { get; }

    public override KvmHostIdentity Host => new(
        SimulatedHost.Spec.Name,
        "0123456789abcdef0123456789abcdef",
        SimulatedHost.Spec.BootId,
        "6.1.0-simulated",
        SimulatedHost.Spec.TscKHz,
        SimulatedHost.Timex.Status,
        HostClock.MaximumError(SimulatedHost.Timex),
        SimulatedHost.SlewPpm,
        SimulatedHost.Timex.Tai,
        SimulatedHost.Tsc,
        SimulatedHost.Realtime,
        SimulatedHost.RawNanoseconds,
        SimulatedHost.SuspendedNanoseconds,
        SimulatedHost.Spec.IsVirtual);

    /// <summary>What Get-KvmHost says of its host.</summary>
    public KvmHostInformation Information => Describe(
        SimulatedHost.Spec.Name, SimulatedHost.Spec.BootId, HostTsc.KHz, HostTsc.FractionBits, HostTsc.TolerancePpm, Abilities, ClockSource, Host);

    /// <summary>What Get-KvmHost says of a host.</summary>
    public static KvmHostInformation Describe(
        string name, string bootId, uint kHz, int fractionBits, uint tolerancePpm, HostAbilities? abilities = null, string? clockSource = "tsc", KvmHostIdentity? clock = null) => new(
        name,
        "6.1.0-simulated",
        bootId,
        kvmModule: null,
        apiVersion: 12,
        maximumVcpus: 1024,
        abilities?.HasTscOffset ?? true,
        abilities?.ClockFlags ?? default,
        hasKvmclockCtrl: true,
        hasVMTscControl: true,
        clockSource,
        kHz,
        fractionBits,
        tolerancePpm,
        tscFlags: [],
        clock?.ClockSynchronized ?? true,
        clock?.MaxErrorMicroseconds ?? 1,
        estimatedErrorMicroseconds: 0,
        clock?.SlewPpm ?? 0,
        clock?.TaiOffsetSeconds ?? 37,
        ptraceScope: null,
        canReadDebugfs: false);

    public override HostTscTraits HostTsc => new(SimulatedHost.Spec.TscKHz, SimulatedHost.FractionBits, SimulatedHost.Spec.TolerancePpm);

    public override HostAbilities Abilities => new(SimulatedHost.Spec.OffsetErrno == 0, SimulatedHost.Spec.ClockFlags);

    /// <summary>What keeps KvmTsc from working on it.</summary>
    public AttachObstacle? Obstacle { get; set; }

    public override AttachObstacle? FindAttachObstacle(OwnRights? rights = null) => Obstacle;

    public override string? ClockSource => VM.ClocksourceIsTsc ? "tsc" : "hpet";

    public override bool GuestHasRun => _guestHasRun;

    public override HostInstant HostNow => new(SimulatedHost.Tsc, SimulatedHost.Realtime);

    public override IReadOnlyList<KvmVcpu> DescribeVcpus() =>
        [.. VcpuIds.Select(id => new KvmVcpu(Identity.Name, Identity.ProcessId, Identity.Id, id, threadId: null, KvmVcpuState.Stopped))];

    /// <summary>The clocks that its guest turns on when it first runs.</summary>
    public KvmGuestClocks GuestClocks { get; set; } = KvmGuestClocks.Kvmclock;

    /// <summary>Lets the guest run for a moment.</summary>
    public SimulatedMachine RunGuest()
    {
        if (!_guestHasRun)
            VM.TurnOn(GuestClocks);
        _guestHasRun = true;
        VM.Run();
        return this;
    }

    /// <summary>Issues one ioctl as a process would that is not under test.</summary>
    public int Issue(int? vcpuId, KvmIoctl request, nint argument)
    {
        var ioctl = new SimulatedIoctl(_log.Count, vcpuId, request, 0) { Batch = _batches, Msr = request is KvmIoctl.GetMsrs or KvmIoctl.SetMsrs ? MsrOf(argument) : 0 };
        SimulatedHost.Time.Advance(SimulatedHost.Spec.IoctlPicoseconds);
        var errno = Fault?.Invoke(ioctl) ?? 0;
        if (errno != 0 && request == KvmIoctl.SetTscKHz)
            VM.Vcpus[vcpuId!.Value].VirtualKHz = (uint)argument;
        ioctl = ioctl with { Result = errno != 0 ? -errno : VM.Issue(vcpuId, request, argument) };
        if (request == KvmIoctl.GetClock)
            ioctl = ioctl with { Clock = VM.ReadClock() };
        _log.Add(ioctl);
        Meddle?.Invoke(ioctl);
        return ioctl.Result;
    }

    private static unsafe uint MsrOf(nint argument) => *(uint*)(argument + 8);

    /// <summary>Everything that a failure has to leave as it was, except for kvmclock, which goes on.</summary>
    public IReadOnlyList<VcpuPicture> Picture() =>
        [.. VM.Vcpus.Select(vcpu => new VcpuPicture(vcpu.Key, vcpu.Value.OffsetWhenLoaded, vcpu.Value.VirtualKHz, vcpu.Value.Ratio))];

    internal sealed record VcpuPicture(int VcpuId, ulong Offset, uint KHz, ulong Ratio);

    private sealed class SimulatedExecutor(SimulatedMachine machine) : IVMExecutor
    {
        public Stopped<T> WhileStopped<T>(Func<IVMStop, T> work, CancellationToken cancellationToken, IoctlBatch? first = null)
        {
            cancellationToken.ThrowIfCancellationRequested();
            Assert.Equal(0, machine.OpenStops);
            machine.OpenStops++;
            machine.Stops++;
            try
            {
                return new Stopped<T>(work(new SimulatedStop(machine)), 12.5);
            }
            finally
            {
                machine.OpenStops--;
            }
        }
    }

    private sealed class SimulatedStop(SimulatedMachine machine) : IVMStop
    {
        public BatchOutcome Run(IoctlBatch batch)
        {
            Assert.Equal(1, machine.OpenStops);
            machine._batches++;
            return BatchRunner.Run(batch, (vcpuId, request, argument) => machine.Issue(vcpuId, (KvmIoctl)request, argument));
        }
    }
}
