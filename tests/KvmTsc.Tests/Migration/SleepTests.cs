using FsCheck.Fluent;
using KvmTsc.Arithmetic;
using KvmTsc.Clocks;
using KvmTsc.Migration;
using KvmTsc.Tests.Simulation;

namespace KvmTsc.Tests.Migration;

/// <summary>VMs that run on while their host sleeps and its TSC begins anew: KVM's master clock is off from then on, for as long as they live.</summary>
public sealed class SleepTests
{
    private static readonly TimeSpan s_night = TimeSpan.FromHours(8);

    private readonly SimulatedTime _time = new();
    private readonly SimulatedMachine _machine;

    public SleepTests()
    {
        _machine = new SimulatedMachine(new SimulatedHost(HostSpec.Ordinary, _time), 0, 1, 2);
        _time.Advance(TimeSpan.FromMinutes(10));
        _machine.RunGuest();
        _time.Advance(TimeSpan.FromMinutes(10));
    }

    /// <summary>By how much a guest's TSC, and its kvmclock, are behind the true time that has passed since a state was captured.</summary>
    private (double Tsc, double Clock) Behind(KvmTscState state)
    {
        var passed = (double)(_machine.SimulatedHost.Realtime - state.RealtimeNanoseconds);
        var vcpu = state.Vcpus[1];
        var then = TscArithmetic.GuestTsc(state.HostTsc, vcpu.Ratio, unchecked((ulong)vcpu.OffsetTicks));
        var ticks = TscArithmetic.Distance(then, _machine.VM.Vcpus[1].GuestTscNow);
        return (passed - (ticks * 1e6 / vcpu.TscKHz), passed - TscArithmetic.Distance(state.ClockNanoseconds, _machine.VM.ReadClock().Clock));
    }

    private void AssertRight(KvmTscState state, KvmTscMigrationResult result)
    {
        var (tsc, clock) = Behind(state);
        Assert.InRange(Math.Abs(tsc), 0, result.ErrorBoundNanoseconds);
        Assert.InRange(Math.Abs(clock), 0, result.ClockErrorBoundNanoseconds);
    }

    private KvmTscState Save() => KvmTscState.Save(_machine, force: false, CancellationToken.None);

    private void Sleep()
    {
        _time.Advance(TimeSpan.FromSeconds(3));
        _machine.SimulatedHost.Suspend(s_night, tscBeginsAnew: true);
    }

    private KvmTscMigrationResult Restore(KvmTscState state) => new TscRestore(_machine, state, new TscRestoreOptions()).Run(CancellationToken.None);

    [Fact]
    public void A_guest_that_ran_through_it_gets_back_the_TSC_that_it_lost_night_after_night()
    {
        for (var night = 0; night < 3; night++)
        {
            var state = Save();
            Assert.Equal(night > 0, state.ClockErrorNanoseconds is not null);
            Sleep();
            _machine.RunGuest();
            _time.Advance(TimeSpan.FromSeconds(20));
            Assert.InRange(Behind(state).Tsc, s_night.TotalNanoseconds - 1e6, s_night.TotalNanoseconds + 1e9);
            var result = Restore(state);
            Assert.False(result.HasMasterClock);
            Assert.False(_machine.VM.MasterClock);
            Assert.InRange(result.ErrorBoundNanoseconds, 0, 60e6);
            Assert.InRange(Math.Abs(result.ResidualNanoseconds), 0, result.ErrorBoundNanoseconds);
            Assert.InRange(Math.Abs((double)result.ClockResidualNanoseconds), 0, result.ClockErrorBoundNanoseconds);
            AssertRight(state, result);
            Assert.Single(_machine.Picture().Select(vcpu => vcpu.Offset).Distinct());
        }
    }

    /// <summary>KVM counts kvmclock on by the time of day: it is set only where it is behind by more than that may be off by.</summary>
    [Fact]
    public void Kvmclock_that_KVM_took_through_it_is_not_touched_by_more_than_it_can_be_read()
    {
        var state = Save();
        Sleep();
        _machine.RunGuest();
        var before = TscArithmetic.Distance(_machine.SimulatedHost.KvmclockBase, _machine.VM.ReadClock().Clock);
        Restore(state);
        var after = TscArithmetic.Distance(_machine.SimulatedHost.KvmclockBase, _machine.VM.ReadClock().Clock);
        Assert.InRange(Math.Abs(after - before), 0, 3 * _machine.SimulatedHost.Spec.IoctlPicoseconds / 1000);
    }

    [Fact]
    public void A_paused_one_that_its_VMM_resumes_at_its_old_kvmclock_gets_both()
    {
        var state = Save();
        Sleep();
        GuestClock.Set(_machine, state.ClockNanoseconds, null, force: true, CancellationToken.None); // as QEMU does
        Assert.InRange(Behind(state).Clock, s_night.TotalNanoseconds - 1e6, double.MaxValue);
        var result = Restore(state);
        _machine.RunGuest();
        AssertRight(state, result);
    }

    /// <summary>Its kvmclock, computed from a TSC before that of its master clock, is three centuries until it runs.</summary>
    [Fact]
    public void Of_one_that_has_not_run_since_KVM_tells_no_kvmclock_and_it_is_given_that_of_the_state()
    {
        var state = Save();
        Sleep();
        Assert.InRange(_machine.VM.ReadClock().Clock, 1UL << 61, ulong.MaxValue);
        var refused = Refusal.Of(_machine, KvmErrorId.ClockWithoutTriple, () => KvmTscState.Save(_machine, force: false, CancellationToken.None));
        Assert.Contains("slept", refused.Message, StringComparison.Ordinal);
        _ = new TscRestore(_machine, state, new TscRestoreOptions()).Preview(CancellationToken.None);
        Assert.InRange(_machine.VM.ReadClock().Clock, 1UL << 61, ulong.MaxValue);
        var result = Restore(state);
        _machine.RunGuest();
        AssertRight(state, result);
    }

    [Fact]
    public void A_pause_of_it_afterwards_is_given_back_as_well()
    {
        Sleep();
        _machine.RunGuest();
        var state = Save();
        Assert.NotNull(state.ClockErrorNanoseconds);
        _time.Advance(TimeSpan.FromMinutes(5));
        GuestClock.Set(_machine, state.ClockNanoseconds, null, force: true, CancellationToken.None);
        var offsets = _machine.Picture();
        var result = Restore(state);
        Assert.Equal((0, ResidualMeasure.HostTsc), (result.ResidualTicks, result.MeasuredBy));
        Assert.Equal(offsets, _machine.Picture());
        var host = _machine.SimulatedHost;
        var due = state.ClockNanoseconds + SimulatedVM.PvclockNanoseconds(host.Tsc - state.HostTsc, host.Spec.TscKHz);
        Assert.InRange(Math.Abs((double)TscArithmetic.Distance(due, _machine.VM.ReadClock().Clock)), 0, result.ClockErrorBoundNanoseconds + 100); // so much beside it runs
    }

    [Fact]
    public void Whatever_fails_everything_is_put_back()
    {
        var state = Save();
        Sleep();
        _machine.RunGuest();
        var writes = 0;
        for (var failing = 0; ; failing++)
        {
            var picture = _machine.Picture();
            var line = TscArithmetic.Distance(_machine.SimulatedHost.KvmclockBase, _machine.VM.ReadClock().Clock);
            var seen = 0;
            var hasFailed = false;
            _machine.Fault = ioctl =>
            {
                if (hasFailed || !ioctl.IsWrite || seen++ != failing)
                    return 0;
                hasFailed = true;
                return 5;
            };
            try
            {
                Restore(state);
            }
            catch (KvmException exception)
            {
                Assert.Contains("was", exception.Message, StringComparison.Ordinal);
                Assert.Equal(picture, _machine.Picture());
                var now = TscArithmetic.Distance(_machine.SimulatedHost.KvmclockBase, _machine.VM.ReadClock().Clock);
                Assert.InRange(Math.Abs(now - line), 0, 3 * _machine.SimulatedHost.Spec.IoctlPicoseconds / 1000);
                writes++;
            }

            _machine.Fault = null;
            if (!hasFailed)
                break;
        }

        Assert.Equal(2 * (_machine.VcpuIds.Count + 1), writes);
    }

    /// <summary>On any host, with any guest: within the bound, and no guest is taken back. What is refused has slept for less than its TSC went wrong while awake.</summary>
    [Fact]
    public void Any_guest_of_any_host_is_right_within_the_bound()
    {
        const int Worlds = 500;
        const double AnyPpm = 1e-3;
        var restored = 0;
        Properties.Hold(
            from scenario in MigrationScenario.Any
            from asleep in MigrationScenario.Duration
            from awake in MigrationScenario.Duration
            select (scenario, asleep, awake),
            world =>
            {
                var (scenario, asleep, awake) = world;
                var host = new SimulatedHost(scenario.Source with { TscStart = scenario.Source.TscStart >> 1 }, new SimulatedTime());
                var machine = new SimulatedMachine(host, scenario.VcpuIds);
                GuestTsc.SetFrequencies(machine, machine.VcpuIds.ToDictionary(id => id, _ => scenario.GuestKHz), force: true, CancellationToken.None);
                machine.RunGuest();
                if (machine.HostTsc.NeedsCatchUp(scenario.GuestKHz))
                    return;
                host.Time.Advance(scenario.RanPicoseconds);
                var state = KvmTscState.Save(machine, force: false, CancellationToken.None);
                host.Suspend(TimeSpan.FromTicks(asleep / 100_000), tscBeginsAnew: true);
                machine.RunGuest();
                host.Time.Advance(awake);
                var before = machine.VcpuIds.ToDictionary(id => id, id => machine.VM.Vcpus[id].GuestTscNow);
                KvmTscMigrationResult result;
                try
                {
                    result = new TscRestore(machine, state, new TscRestoreOptions()).Run(CancellationToken.None);
                }
                catch (KvmException exception) when (exception.ErrorId is KvmErrorId.GuestTscBackwards or KvmErrorId.ClockBackwards && asleep <= ((asleep + awake) * AnyPpm) + 1e9)
                {
                    return;
                }

                restored++;
                foreach (var vcpu in state.Vcpus)
                {
                    var then = TscArithmetic.GuestTsc(state.HostTsc, vcpu.Ratio, unchecked((ulong)vcpu.OffsetTicks));
                    var now = machine.VM.Vcpus[vcpu.VcpuId].GuestTscNow;
                    var error = (TscArithmetic.Distance(then, now) * 1e9 / machine.VM.Vcpus[vcpu.VcpuId].ActualHz) - (host.Realtime - state.RealtimeNanoseconds);
                    Assert.True(Math.Abs(error) <= result.ErrorBoundNanoseconds + Doubles, $"off by {error} ns, {result.ErrorBoundNanoseconds} stated");
                    Assert.True(TscArithmetic.Distance(before[vcpu.VcpuId], now) >= 0, "went back");
                }
            },
            Worlds);
        Assert.InRange(restored, Worlds / 4, Worlds);
    }

    private const double Doubles = 10; // nanoseconds that doubles of 30 days, and a tick of the slowest TSC, are good to
}
