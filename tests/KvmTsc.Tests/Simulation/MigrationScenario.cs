using FsCheck;
using FsCheck.Fluent;
using KvmTsc.Clocks;
using KvmTsc.Migration;

namespace KvmTsc.Tests.Simulation;

/// <summary>What the destination was before it was restored.</summary>
internal enum DestinationKind
{
    NeverRan,
    ClockSet,
    Ran,

    /// <summary>Its offsets differ, and its guest has run: the master clock is off.</summary>
    Diverged,

    /// <summary>Its offsets differ, and nothing has noticed yet: the master clock is still on.</summary>
    DivergedUnnoticed,

    /// <summary>One offset was written, and written back: all are equal, and the master clock is off.</summary>
    OddOneWrittenBack,

    /// <summary>The same, and nothing has noticed yet.</summary>
    OddOneWrittenBackUnnoticed,
}

/// <summary>A migration between two simulated hosts.</summary>
internal sealed record MigrationScenario(HostSpec Source, HostSpec Destination, uint GuestKHz, int VcpuCount, int VcpuStride)
{
    public ulong Offset { get; init; }

    public ulong Clock { get; init; }

    public long RanPicoseconds { get; init; } = 5_000_000_000_123;

    public long DowntimePicoseconds { get; init; } = 3_000_000_456_789;

    public DestinationKind Kind { get; init; }

    /// <summary>What befalls the hosts half way through the downtime: the source's, and the destination's.</summary>
    public Action<SimulatedHost, SimulatedHost>? Meanwhile { get; init; }

    public int[] VcpuIds => [.. Enumerable.Range(0, VcpuCount).Select(i => i * VcpuStride)];

    /// <summary>Hosts of any frequency, scaling on either side or not, and a guest that both can run.</summary>
    public static Gen<MigrationScenario> Any { get; } =
        from source in AnyHost("source")
        from destination in AnyHost("destination")
        from scaledKHz in Numbers.KHz
        from near in Gen.Choose(-200, 200)
        from far in Gen.Choose(-200, 200)
        from vcpus in Gen.Frequency((6, Gen.Choose(1, 4)), (2, Gen.Choose(5, 64)), (1, Gen.Choose(65, 255)))
        from stride in Gen.Elements(1, 1, 3)
        from offset in Numbers.Counter
        from clock in Numbers.Between(0, (1L << 61) - (1L << 53)) // and room for the times
        from ran in Duration
        from downtime in Duration
        from kind in Gen.Elements(Enum.GetValues<DestinationKind>())
        select Fit(new MigrationScenario(source, destination, scaledKHz, vcpus, stride)
        {
            Offset = offset,
            Clock = (ulong)clock,
            RanPicoseconds = ran,
            DowntimePicoseconds = downtime,
            Kind = kind,
        }, near, far);

    /// <summary>From nothing to 30 days.</summary>
    public static Gen<long> Duration { get; } = Gen.OneOf(
        Gen.Constant(0L),
        Numbers.Between(0, 1_000_000_000),
        Numbers.Between(0, 100_000_000_000_000),
        Numbers.Between(0, 2_592_000_000_000_000_000));

    /// <summary>Builds the source, runs it, captures it and lets the downtime pass.</summary>
    public Migration Start() => new(this);

    private static Gen<HostSpec> AnyHost(string name) =>
        from kHz in Numbers.KHz
        from calibration in Numbers.Between(-60_000_000, 60_000_000)
        from start in Numbers.Counter
        from scaling in Gen.Elements(TscScaling.None, TscScaling.Intel, TscScaling.Amd)
        from error in Numbers.Between(-20_000_000, 20_000_000)
        from ioctl in Numbers.Between(100_000, 3_000_000)
        from raw in Gen.Choose(-160, 160)
        select new HostSpec((ulong)(((Int128)kHz * 1000) + ((Int128)kHz * calibration / 1_000_000_000)), kHz, scaling == TscScaling.None ? start : BeforeItWraps(start), scaling)
        {
            Name = name,
            RealtimeErrorNanoseconds = error,
            IoctlPicoseconds = ioctl,
            RawPartsPerBillion = raw,
        };

    /// <summary>
    /// Where a host's TSC wraps, after a hundred years, the scaled one of its guests jumps, by whatever a ratio makes of 2^64: no offset holds on both sides of
    /// that, and a restore that lies across it has a true residual of centuries. 2^56 ticks are more than any scenario takes.
    /// </summary>
    private static ulong BeforeItWraps(ulong start) => start > ulong.MaxValue - (1UL << 56) ? start - (1UL << 57) : start;

    /// <summary>A host without scaling has only guests within its tolerance.</summary>
    private static MigrationScenario Fit(MigrationScenario any, int nearPpm, int farPpm)
    {
        if (any.Source.Scaling == TscScaling.None && any.Destination.Scaling == TscScaling.None)
        {
            var kHz = Off(any.Source.TscKHz, nearPpm);
            var hz = any.Destination.TscHz * kHz / any.Destination.TscKHz;
            return any with { GuestKHz = kHz, Destination = any.Destination with { TscKHz = Off(kHz, farPpm), TscHz = (ulong)((hz * (1 + (farPpm / 1e6)))) } };
        }

        if (any.Source.Scaling == TscScaling.None)
            return any with { GuestKHz = Off(any.Source.TscKHz, nearPpm) };
        return any.Destination.Scaling == TscScaling.None ? any with { GuestKHz = Off(any.Destination.TscKHz, nearPpm) } : any;
    }

    private static uint Off(uint kHz, int ppm) => (uint)(kHz + ((long)kHz * ppm / 1_000_000));
}

/// <summary>A scenario under way: the state is captured, the downtime has passed, the destination is as it is to be found.</summary>
internal sealed class Migration
{
    public Migration(MigrationScenario scenario)
    {
        Scenario = scenario;
        Time = new SimulatedTime();
        var sourceHost = new SimulatedHost(scenario.Source, Time);
        var destinationHost = scenario.Destination.BootId == scenario.Source.BootId ? sourceHost : new SimulatedHost(scenario.Destination, Time);
        Source = new SimulatedMachine(sourceHost, scenario.VcpuIds);
        Assign(Source, scenario.GuestKHz, scenario.Offset);
        GuestClock.Set(Source, scenario.Clock, null, force: true, CancellationToken.None);
        Source.RunGuest();
        Time.Advance(scenario.RanPicoseconds);
        State = KvmTscState.Save(Source, force: false, CancellationToken.None);
        CapturedAt = Source.Log.Last(ioctl => ioctl.Clock is not null).Clock!.Picoseconds;
        Time.Advance(scenario.DowntimePicoseconds / 2);
        scenario.Meanwhile?.Invoke(sourceHost, destinationHost);
        Time.Advance(scenario.DowntimePicoseconds - (scenario.DowntimePicoseconds / 2));

        // A destination whose clock is behind refuses until it has caught up.
        var behind = (long)(State.RealtimeNanoseconds - destinationHost.Realtime);
        if (behind > 0)
            Time.Advance((behind + 1) * 1000);
        Destination = new SimulatedMachine(destinationHost, scenario.VcpuIds);
        Prepare(Destination, scenario.Kind);
    }

    public MigrationScenario Scenario { get; }

    public SimulatedTime Time { get; }

    public SimulatedMachine Source { get; }

    public SimulatedMachine Destination { get; }

    public KvmTscState State { get; }

    /// <summary>The true time at which the source's clock was read, in picoseconds.</summary>
    public long CapturedAt { get; }

    public KvmTscMigrationResult Restore(TscMethod method) =>
        new TscRestore(Destination, State, new TscRestoreOptions(method, Destination.GuestHasRun)).Run(CancellationToken.None);

    public static void Prepare(SimulatedMachine machine, DestinationKind kind)
    {
        if (kind == DestinationKind.NeverRan)
            return;
        GuestClock.Set(machine, 1_234_567, null, force: true, CancellationToken.None);
        if (kind is DestinationKind.ClockSet)
            return;
        machine.RunGuest();
        var last = machine.VcpuIds[^1];
        var offset = unchecked((long)machine.VM.Vcpus[last].Offset);
        if (kind is not DestinationKind.Ran)
            SetOffset(machine, last, offset + 777);
        if (kind is DestinationKind.OddOneWrittenBack or DestinationKind.OddOneWrittenBackUnnoticed)
            SetOffset(machine, last, offset);
        if (kind is DestinationKind.Diverged or DestinationKind.OddOneWrittenBack)
            machine.RunGuest();
    }

    /// <summary>Writes one offset and nothing else.</summary>
    private static void SetOffset(SimulatedMachine machine, int vcpuId, long offset) => Semantics.Raw.SetOffset(machine, vcpuId, unchecked((ulong)offset));

    private static void Assign(SimulatedMachine machine, uint kHz, ulong offset)
    {
        GuestTsc.SetFrequencies(machine, machine.VcpuIds.ToDictionary(id => id, _ => kHz), force: false, CancellationToken.None);
        GuestTsc.SetOffsets(machine, machine.VcpuIds.ToDictionary(id => id, _ => unchecked((long)offset)), force: false, CancellationToken.None);
    }
}
