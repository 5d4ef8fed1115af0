using KvmTsc.Clocks;
using KvmTsc.Migration;
using KvmTsc.Tests.Simulation;

namespace KvmTsc.Tests.Migration;

/// <summary>
/// An operation on a VM that is about to fail, and what the VM was before. Nothing in it is random: every instance with the same
/// arguments issues the same ioctls.
/// </summary>
internal sealed class FaultRun
{
    public const int VcpuCount = 3;
    private readonly Action _operate;
    private readonly IReadOnlyList<SimulatedMachine.VcpuPicture> _picture;
    private readonly SimulatedClockReading _reading;
    private readonly (ulong, ulong, ulong, bool) _clockBase;
    private readonly bool _matched;
    private readonly bool _timesClock;
    private readonly int _issued;
    private readonly Func<FaultRun> _another;

    public FaultRun(string operation, DestinationKind kind, CancellationToken cancellationToken = default)
    {
        // Guest and destination differ in frequency and scale, so that frequencies have to be written as well.
        var source = HostSpec.Ordinary with { Name = "source", BootId = "a", Scaling = TscScaling.Amd, TscStart = 1UL << 45 };
        var destination = operation == "restore on one host"
            ? source
            : new HostSpec(2_600_123_456, 2_600_100, ulong.MaxValue - 1_000_000, TscScaling.Intel) { Name = "destination", BootId = "b" };
        var migration = new MigrationScenario(source, destination, 1_700_000, VcpuCount, 1) { Offset = 1UL << 50, Clock = 1UL << 40, Kind = kind }.Start();
        Machine = migration.Destination;
        _operate = operation switch
        {
            "restore" or "restore on one host" => () => Restore(TscMethod.Best),
            "restore as documented" => () => Restore(TscMethod.Documented),
            "set offsets" => () => GuestTsc.SetOffsets(Machine, VcpuIds.ToDictionary(id => id, _ => 1L << 60), force: true, cancellationToken),
            "set one offset" => () => GuestTsc.SetOffsets(Machine, new Dictionary<int, long> { [1] = 1L << 60 }, force: true, cancellationToken),
            "set frequencies" => () => GuestTsc.SetFrequencies(Machine, VcpuIds.ToDictionary(id => id, _ => 1_900_000u), force: false, cancellationToken),
            "repair" => () => MasterClock.Repair(Machine, 0, force: true, cancellationToken),
            "set clock" => () => GuestClock.Set(Machine, 1UL << 55, null, force: true, cancellationToken),
            _ => throw new ArgumentOutOfRangeException(nameof(operation)),
        };
        _timesClock = operation.StartsWith("restore", StringComparison.Ordinal);
        _picture = Machine.Picture();
        _reading = Machine.VM.ReadClock();
        _clockBase = Machine.VM.ClockBase;
        _matched = Machine.VM.VcpusMatch;
        _issued = Machine.Log.Count;
        _another = () => new FaultRun(operation, kind, CancellationToken.None);

        void Restore(TscMethod method) => new TscRestore(Machine, migration.State, new TscRestoreOptions(method, Force: true)).Run(cancellationToken);
    }

    public static IReadOnlyList<int> VcpuIds { get; } = [.. Enumerable.Range(0, VcpuCount)];

    public SimulatedMachine Machine { get; }

    /// <summary>What the operation does when nothing fails.</summary>
    public IReadOnlyList<SimulatedIoctl> Operation => field ??= Model();

    /// <summary>Whether an ioctl of the operation has failed by now.</summary>
    public bool Failed => Machine.Log.Skip(_issued).Any(ioctl => ioctl.Result < 0);

    public void Operate() => _operate();

    /// <summary>Whether a batch had written anything when it came to an ioctl, or writes by failing, as KVM_SET_TSC_KHZ does.</summary>
    public bool HasWritten(int number) => Machine.Log.Skip(_issued).Any(ioctl =>
        ioctl.IsWrite && ioctl.Batch == Machine.Log[Math.Min(number, Machine.Log.Count - 1)].Batch && (ioctl.Number < number || (ioctl.Number == number && ioctl.Request == KvmIoctl.SetTscKHz)));

    /// <summary>
    /// Asserts that offsets, frequencies and ratios are those of before, that vCPUs which were in step are, and that kvmclock is where it would
    /// be by now.
    /// </summary>
    /// <param name="except">An ioctl of the undoing that was made to fail.</param>
    public void AssertAsBefore(SimulatedIoctl? except = null)
    {
        Assert.Equal(0, Machine.OpenStops);
        var after = Machine.Picture().Zip(_picture, (after, before) => except is { } ioctl && ioctl.VcpuId == after.VcpuId
            ? after with { Offset = before.Offset, KHz = before.KHz, Ratio = before.Ratio }
            : after);
        Assert.Equal(_picture, after);
        if (_matched && except is null or { VcpuId: null })
        {
            Assert.True(Machine.VM.VcpusMatch);
            if (_clockBase.Item4)
                Assert.True(Machine.VM.MasterClock);
        }

        // A clock that was not written is not put back either: that would move it, if only by what the putting back takes.
        if (!Machine.Log.Skip(_issued).TakeWhile(ioctl => ioctl.Result >= 0 || ioctl.IsAttempt).Any(ioctl => ioctl.Request == KvmIoctl.SetClock))
            Assert.Equal(_clockBase, Machine.VM.ClockBase);
        else if (except?.Request != KvmIoctl.SetClock)
            AssertClockWentOn();
    }

    /// <summary>
    /// kvmclock is put back by KVM_SET_CLOCK with the CLOCK_REALTIME of the reading before. What it can be off by is what the kernel makes of
    /// that: it takes the clock's base a moment before CLOCK_REALTIME (SettingPicoseconds), rounds both down to ns, and lets kvmclock run by a
    /// TSC whose frequency it knows to some ppm only. Without a triple nothing can be added for the time since the reading, but by a restore, which finds out itself when
    /// that was, to half of what an ioctl takes.
    /// </summary>
    private void AssertClockWentOn()
    {
        var now = Machine.VM.ReadClock();
        var passed = (now.Picoseconds - _reading.Picoseconds) / 1e3;
        var error = unchecked((long)(now.Clock - _reading.Clock)) - passed;
        if (_reading.Flags == 0 && _timesClock)
            Assert.InRange(error, -passed - 2, ((Machine.VM.SettingPicoseconds + (Machine.SimulatedHost.Spec.IoctlPicoseconds / 2)) / 1e3) + (passed * 1e-4) + 3);
        else if (_reading.Flags == 0)
            Assert.InRange(error, -passed - 2, (passed * 1e-4) + 2);
        else
            Assert.InRange(error, (-passed * 1e-4) - 3, (Machine.VM.SettingPicoseconds / 1e3) + (passed * 1e-4) + 3);
    }

    private IReadOnlyList<SimulatedIoctl> Model()
    {
        var model = _another();
        model.Operate();
        return [.. model.Machine.Log.Skip(model._issued)];
    }
}
