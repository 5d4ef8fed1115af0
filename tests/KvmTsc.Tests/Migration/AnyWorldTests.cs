using FsCheck;
using FsCheck.Fluent;
using KvmTsc.Arithmetic;
using KvmTsc.Clocks;
using KvmTsc.Migration;
using KvmTsc.Tests.Simulation;

namespace KvmTsc.Tests.Migration;

/// <summary>
/// What is promised, in worlds that are as bad as the real one: clocks that chrony, timesyncd, phc2sys or nobody keeps, that are set, slewed and have a leap
/// second; hosts that scale or do not, sleep, or are virtual machines that are paused. Whatever becomes of a restore, its error lies within its bound, and no
/// guest is taken back unless by force.
/// </summary>
public sealed class AnyWorldTests
{
    /// <summary>How many worlds; those in which nothing was refused are counted, lest this proves nothing.</summary>
    private static readonly int s_worlds = int.Parse(Environment.GetEnvironmentVariable("KVMTSC_WORLDS") ?? "3000", null);

    private int _restored;
    private int _written;
    private int _refused;

    private static Gen<HostSpec> AnyKept(HostSpec host) =>
        from keeper in Gen.Elements(ClockKeeper.Chrony, ClockKeeper.Chrony, ClockKeeper.Timesyncd, ClockKeeper.Timesyncd, ClockKeeper.Ptp, ClockKeeper.Nobody)
        from error in Gen.Elements(1_000L, 3_000_000L, keeper == ClockKeeper.Nobody ? 3_600_000_000_000L : 400_000_000L)
        from part in Gen.Choose(-1000, 1000)
        from slewed in Gen.Frequency((3, Gen.Constant(0.0)), (1, Gen.Choose(-500, 500).Select(ppm => (double)ppm)))
        from leap in Gen.Frequency((19, Gen.Constant(false)), (1, Gen.Constant(true)))
        from isVirtual in Gen.Frequency((4, Gen.Constant(false)), (1, Gen.Constant(true)))
        // What chrony slews by cannot be told from what the frequency is off by: that it hides just that is not in the bound.
        let ppm = keeper == ClockKeeper.Chrony && host.TscHz > host.TscKHz * 1000.0 ? -Math.Abs(slewed) : keeper == ClockKeeper.Chrony ? Math.Abs(slewed) : slewed
        select host with
        {
            Keeper = keeper, RealtimeErrorNanoseconds = error * part / 1000, RealtimePpm = ppm, HadLeapSecond = leap, IsVirtual = isVirtual,
        };

    private static Gen<Action<SimulatedHost, SimulatedHost>?> AnyFate { get; } =
        from what in Gen.Choose(0, 9)
        from milliseconds in Gen.OneOf(Gen.Choose(1, 5_000), Gen.Choose(1, 40_000_000))
        from beginsAnew in Gen.Elements(true, false)
        from back in Gen.Elements(true, false)
        let time = TimeSpan.FromMilliseconds(milliseconds)
        select (Action<SimulatedHost, SimulatedHost>?)(what switch
        {
            0 => (_, destination) => destination.Suspend(time, beginsAnew),
            1 => (_, destination) => Pause(destination, time),
            2 => (_, destination) => destination.StepRealtime(back ? -time : time),
            3 => (source, _) => source.StepRealtime(back ? -time : time),
            _ => null,
        });

    private static Gen<(MigrationScenario Scenario, TscRestoreOptions Options, int? ResumedMilliseconds)> AnyWorld { get; } =
        from scenario in MigrationScenario.Any
        from source in AnyKept(scenario.Source)
        from other in AnyKept(scenario.Destination)
        from isOneHost in Gen.Elements(true, false)
        from fate in AnyFate
        from method in Gen.Elements(TscMethod.Best, TscMethod.Best, TscMethod.Documented)
        from downtime in Gen.Elements(TscDowntime.Count, TscDowntime.Count, TscDowntime.Exclude)
        from resumed in Gen.OneOf(Gen.Constant((int?)null), Gen.Choose(0, 3_000).Select(milliseconds => (int?)milliseconds))
        let kHz = isOneHost && source.Scaling == TscScaling.None ? source.TscKHz : scenario.GuestKHz
        let one = source with { TscStart = source.TscStart >> 1 }
        select (
            scenario with { GuestKHz = kHz, Source = isOneHost ? one : source, Destination = isOneHost ? one : other, Meanwhile = fate },
            new TscRestoreOptions(method, Downtime: downtime),
            resumed);

    [Fact]
    public void No_result_is_outside_its_bound_and_no_guest_is_taken_back()
    {
        Properties.Hold(
            AnyWorld,
            world =>
            {
                var migration = (world.ResumedMilliseconds is null ? world.Scenario : world.Scenario with { Kind = DestinationKind.NeverRan }).Start();
                if (world.ResumedMilliseconds is { } milliseconds)
                    Resume(migration, TimeSpan.FromMilliseconds(milliseconds));
                Judge(migration, world.Options);
            },
            s_worlds);
        Assert.InRange(_restored, s_worlds / 4, s_worlds);
    }

    /// <summary>As QEMU does: the guest goes on with its TSC where it should be, and kvmclock where it was, for some time.</summary>
    private static void Resume(Simulation.Migration migration, TimeSpan ago)
    {
        try
        {
            _ = new TscRestore(migration.Destination, migration.State, new TscRestoreOptions(Force: true)).Run(CancellationToken.None);
        }
        catch (KvmException exception) when (exception.ErrorId == KvmErrorId.RealtimeInFuture)
        {
            return; // the clock of this host was set back
        }

        migration.Destination.RunGuest();
        GuestClock.Set(migration.Destination, migration.State.ClockNanoseconds, null, force: true, CancellationToken.None);
        migration.Time.Advance(ago);
    }

    /// <summary>Whatever is written to a guest that runs, as long as it is not by force.</summary>
    [Fact]
    public void No_write_takes_a_guest_back() => Properties.Hold(AnyWrites, writes =>
    {
        var time = new SimulatedTime();
        var machine = new SimulatedMachine(new SimulatedHost(writes.Host, time), 0, 1, 2);
        machine.RunGuest();
        foreach (var (ran, what, value) in writes.All)
        {
            time.Advance(ran);
            machine.RunGuest();
            var before = ToldBy(machine);
            try
            {
                Write(machine, what, value);
            }
            catch (KvmException)
            {
                _refused++;
            }

            AssertNotBack(before, ToldBy(machine));
            machine.RunGuest();
            AssertNotBack(before, ToldBy(machine));
            _written++;
        }

        Assert.True(_written < 1000 || _refused < _written * 3 / 4, $"{_refused} of {_written} writes were refused.");
    }, s_worlds);

    private static Gen<(HostSpec Host, (long Ran, int What, long Value)[] All)> AnyWrites { get; } =
        from scenario in MigrationScenario.Any
        from all in (
            from ran in MigrationScenario.Duration
            from what in Gen.Choose(0, 4)
            from value in Gen.OneOf(Numbers.Between(-100_000, 100_000), Numbers.Between(-1L << 50, 1L << 50))
            select (ran, what, value)).ListOf(4)
        select (scenario.Source with { TscStart = scenario.Source.TscStart >> 1 }, all.ToArray());

    private static void Write(SimulatedMachine machine, int what, long value)
    {
        var offset = unchecked((long)machine.VM.Vcpus[0].Offset + value);
        _ = what switch
        {
            0 => GuestTsc.SetOffsets(machine, machine.VcpuIds.ToDictionary(id => id, _ => offset), force: false, CancellationToken.None),
            1 => GuestTsc.SetOffsets(machine, new Dictionary<int, long> { [1] = offset }, force: false, CancellationToken.None),
            2 => GuestTsc.SetFrequencies(
                machine, machine.VcpuIds.ToDictionary(id => id, _ => (uint)(machine.HostTsc.KHz + (value % 100_000))), force: false, CancellationToken.None),
            3 => GuestClock.Set(machine, unchecked(machine.VM.ReadClock().Clock + (ulong)value), null, force: false, CancellationToken.None),
            _ => (object)MasterClock.Repair(machine, MasterClock.DefaultMaximumAdvanceSeconds, force: false, CancellationToken.None),
        };
    }

    private static void Pause(SimulatedHost host, TimeSpan time)
    {
        if (host.Spec.IsVirtual)
            host.Pause(time);
    }

    private void Judge(Simulation.Migration migration, TscRestoreOptions options)
    {
        var machine = migration.Destination;
        var before = machine.GuestHasRun ? SeenBy(machine) : null;
        KvmTscMigrationResult result;
        try
        {
            result = new TscRestore(machine, migration.State, options).Run(CancellationToken.None);
        }
        catch (KvmException)
        {
            return;
        }

        _restored++;
        if (before is not null)
            AssertNotBack(before, SeenBy(machine));
        var readings = machine.Log.Where(ioctl => ioctl.Clock is not null).ToArray();
        var (now, set) = (readings[^1].Clock!, machine.Log.Last(ioctl => ioctl.Request == KvmIoctl.SetClock).Number);
        var since = options.Downtime == TscDowntime.Count ? migration.CapturedAt : readings.Last(reading => reading.Number < set).Clock!.Picoseconds;
        var goesOn = result.MeasuredBy == ResidualMeasure.HostTsc && options.Downtime == TscDowntime.Count;
        foreach (var id in machine.VcpuIds)
        {
            var (tsc, clock) = goesOn ? LineOf(migration.Source, id, now.HostTsc) : TruthOf(migration, id, (now.Picoseconds - since) / 1e12);
            var ticks = TscArithmetic.Distance(tsc, machine.VM.Vcpus[id].GuestTsc(now.HostTsc));
            AssertWithin(ticks * 1e6 / migration.Scenario.GuestKHz, result.ErrorBoundNanoseconds, $"TSC of vCPU {id}");
            AssertWithin(TscArithmetic.Distance(clock, machine.VM.SeenAt(id, now.HostTsc)), result.ClockErrorBoundNanoseconds, $"kvmclock of vCPU {id}");
        }
    }

    /// <summary>Where one TSC tells all: what the guest would see there had it gone on.</summary>
    private static (ulong Tsc, ulong Clock) LineOf(SimulatedMachine source, int vcpuId, ulong hostTsc) =>
        (source.VM.Vcpus[vcpuId].GuestTsc(hostTsc), source.VM.SeenAt(vcpuId, hostTsc));

    /// <summary>Elsewhere: what it would see by a clock that no host has, had it gone on for so long after the capture.</summary>
    private static (ulong Tsc, ulong Clock) TruthOf(Simulation.Migration migration, int vcpuId, double seconds)
    {
        var (tsc, clock) = LineOf(migration.Source, vcpuId, migration.State.HostTsc);
        var host = migration.Scenario.Source;
        return unchecked((
            tsc + (ulong)(long)(migration.Source.VM.Vcpus[vcpuId].ActualHz * seconds),
            clock + (ulong)(long)(seconds * host.TscHz / host.TscKHz * 1e6)));
    }

    /// <summary>TSC and kvmclock of each vCPU, as its guest sees them.</summary>
    private static (int VcpuId, ulong Tsc, ulong Clock)[] SeenBy(SimulatedMachine machine)
    {
        var tsc = machine.SimulatedHost.Tsc;
        return [.. machine.VcpuIds.Select(id =>
            (id, machine.VM.Vcpus[id].GuestTsc(tsc), machine.VM.MasterClock ? machine.VM.SeenAt(id, tsc) : machine.VM.ReadClock().Clock))];
    }

    /// <summary>The same as KVM tells it: kvmclock of a guest that is scaled runs beside that, until KVM takes its master clock anew, whoever has it do so.</summary>
    private static (int VcpuId, ulong Tsc, ulong Clock)[] ToldBy(SimulatedMachine machine) =>
        [.. SeenBy(machine).Select(vcpu => (vcpu.VcpuId, vcpu.Tsc, machine.VM.ReadClock().Clock))];

    private static void AssertNotBack((int VcpuId, ulong Tsc, ulong Clock)[] before, (int VcpuId, ulong Tsc, ulong Clock)[] after)
    {
        const long AsFarBackAsForth = long.MinValue + (1L << 40); // half of all that a TSC counts away, the ticks between two looks decide
        foreach (var (then, now) in before.Zip(after))
        {
            Assert.True(TscArithmetic.Distance(then.Tsc, now.Tsc) is >= 0 or < AsFarBackAsForth, $"The TSC of vCPU {then.VcpuId} went back from {then.Tsc} to {now.Tsc}.");
            Assert.True(TscArithmetic.Distance(then.Clock, now.Clock) >= 0, $"kvmclock of vCPU {then.VcpuId} went back from {then.Clock} to {now.Clock}.");
        }
    }

    private static void AssertWithin(double error, double bound, string what)
    {
        const double Doubles = 10; // nanoseconds that doubles of 30 days, and a tick of the slowest TSC, are good to
        Assert.True(Math.Abs(error) <= bound + Doubles, FormattableString.Invariant($"{what} is off by {error} ns, and {bound} ns are stated."));
    }
}
