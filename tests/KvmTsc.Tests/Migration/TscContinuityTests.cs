using KvmTsc.Arithmetic;
using KvmTsc.Hosts;
using KvmTsc.Migration;
using KvmTsc.Migration.Preflight;
using KvmTsc.Tests.Simulation;

namespace KvmTsc.Tests.Migration;

/// <summary>A state that comes back to the host that it is from, where other things happened to that meanwhile.</summary>
public sealed class TscContinuityTests
{
    private static readonly TimeSpan s_night = TimeSpan.FromHours(8);
    private static readonly TimeSpan s_awake = TimeSpan.FromMinutes(15);

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_host_that_slept_is_judged_by_the_time_of_day(bool tscBeginsAnew)
    {
        var run = new Run(HostSpec.Ordinary with { TscStart = 0 });
        run.Host.Suspend(s_night, tscBeginsAnew);
        run.Time.Advance(s_awake);
        run.AssertRight(ResidualMeasure.Realtime, s_night + s_awake);
    }

    [Fact]
    public void A_TSC_that_stood_still_unlike_the_kernels_raw_clock_did_not_go_on()
    {
        var run = new Run(HostSpec.Ordinary);
        run.Time.Advance(s_awake);
        var host = run.State.Host;
        run.State = run.State.With(host: Identity(host, raw: host.MonotonicRawNanoseconds - 3_600_000_000_000)); // which counted an hour more since
        run.AssertRight(ResidualMeasure.Realtime, s_awake);
    }

    [Theory]
    [InlineData(-30)]
    [InlineData(3600)]
    [InlineData(-100_000_000)] // before the capture
    public void On_one_TSC_a_CLOCK_REALTIME_that_was_set_does_not_matter(int seconds)
    {
        var run = new Run(HostSpec.Ordinary);
        run.Time.Advance(s_awake);
        run.Host.StepRealtime(TimeSpan.FromSeconds(seconds));
        run.AssertRight(ResidualMeasure.HostTsc, s_awake);
    }

    [Fact]
    public void A_guest_that_ran_on_is_not_taken_back_by_a_CLOCK_REALTIME_that_was_set()
    {
        var run = new Run(HostSpec.Ordinary);
        run.Time.Advance(s_awake);
        run.Host.StepRealtime(TimeSpan.FromHours(1));
        var destination = run.Destination();
        KvmTsc.Clocks.GuestClock.Set(destination, 2_000_000_000_000, null, force: true, CancellationToken.None);
        destination.RunGuest();
        var exception = Assert.Throws<KvmException>(() => new TscRestore(destination, run.State, new TscRestoreOptions()).Run(CancellationToken.None));
        Refusal.AssertExplains(exception, KvmErrorId.ClockBackwards);
    }

    [Fact]
    public void A_restore_can_be_repeated()
    {
        var run = new Run(HostSpec.Ordinary);
        var destination = run.Destination();
        for (var i = 0; i < 5; i++)
        {
            run.Time.Advance(s_awake);
            var before = destination.VM.ReadClock().Clock;
            var result = new TscRestore(destination, run.State, new TscRestoreOptions()).Run(CancellationToken.None);
            Assert.Equal(0, result.ResidualTicks);
            Assert.InRange(result.NewClockNanoseconds, before, ulong.MaxValue);
            destination.RunGuest();
        }
    }

    /// <summary>A line that a watch knows, where its host has slept: the guest's clocks are on it by the TSC that there is now.</summary>
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_line_is_carried_over_a_sleep_in_which_the_TSC_did_not_go_on(bool tscBeginsAnew)
    {
        var run = new Run(HostSpec.Ordinary with { TscStart = 1UL << 44 });
        run.Time.Advance(s_awake);
        run.Host.Suspend(s_night, tscBeginsAnew);
        run.Time.Advance(s_awake);
        var (then, now) = (run.State, run.Destination());
        var carried = then.CarriedOver(now.Host);
        var elapsed = (long)(s_awake + s_night + s_awake).TotalNanoseconds;
        Assert.Equal(run.Host.Tsc, carried.HostTsc);
        Assert.InRange(TscArithmetic.Distance(then.ClockNanoseconds, carried.ClockNanoseconds) - elapsed, -1_000_000, 1_000_000); // by the kernel's rate
        foreach (var (before, after) in then.Vcpus.Zip(carried.Vcpus))
        {
            var ticks = TscArithmetic.Distance(
                TscArithmetic.GuestTsc(then.HostTsc, before.Ratio, unchecked((ulong)before.OffsetTicks)), TscArithmetic.GuestTsc(carried.HostTsc, after.Ratio, unchecked((ulong)after.OffsetTicks)));
            Assert.InRange((ticks * 1e6 / after.TscKHz) - elapsed, -1_000_000, 1_000_000);
        }

        Assert.True(ClockLine.IsOneTsc(carried, now.Host, now.SimulatedHost.Tsc));
        Assert.Same(carried, carried.CarriedOver(now.Host));
    }

    /// <summary>A host's clock of the time of day tells seconds: of a shorter sleep it may know nothing.</summary>
    [Fact]
    public void A_line_is_carried_over_a_TSC_that_began_anew_in_no_time()
    {
        var run = new Run(HostSpec.Ordinary with { TscStart = 1UL << 44 });
        run.Host.Suspend(TimeSpan.Zero, tscBeginsAnew: true);
        run.Time.Advance(s_awake);
        var carried = run.State.CarriedOver(run.Destination().Host);
        Assert.Equal(run.Host.Tsc, carried.HostTsc);
    }

    [Fact]
    public void A_line_stays_as_it_is_where_the_TSC_went_on()
    {
        var run = new Run(HostSpec.Ordinary);
        run.Time.Advance(s_night);
        Assert.Same(run.State, run.State.CarriedOver(run.Destination().Host));
        var host = run.Destination().Host;
        var asleep = run.State.With(host: Identity(run.State.Host, raw: run.State.Host.MonotonicRawNanoseconds + 1_000_000_000_000, suspended: 0 - 1_000_000_000_000L));
        Assert.Same(asleep, asleep.CarriedOver(host)); // as after a sleep that no TSC noticed
        var other = run.State.With(host: new KvmHostIdentity("other", null, "another boot", null, host.TscKHz, 1, 1, 0, 0, 1, 1, 1, 0, false));
        Assert.Same(other, other.CarriedOver(host));
    }

    [Fact]
    public void A_virtual_host_that_was_paused_is_not_trusted_and_says_both_times()
    {
        var run = new Run(HostSpec.Ordinary with { IsVirtual = true });
        run.Host.Pause(s_night);
        run.Time.Advance(s_awake);
        var exception = Assert.Throws<KvmException>(() => new TscRestore(run.Destination(), run.State, new TscRestoreOptions()).Run(CancellationToken.None));
        Refusal.AssertExplains(exception, KvmErrorId.ClocksDisagree);
        Assert.Contains("900 s have passed by the TSC", exception.Message, StringComparison.Ordinal);
        Assert.Contains("29700 s by its CLOCK_REALTIME", exception.Message, StringComparison.Ordinal);
        var findings = TscPreflight.Run(run.State, run.Destination(), new TscPreflightOptions(), CancellationToken.None).Result.Findings;
        Assert.Contains(findings, finding => finding.Check == nameof(KvmErrorId.ClocksDisagree));
        var forced = new TscRestore(run.Destination(), run.State, new TscRestoreOptions(Force: true)).Run(CancellationToken.None);
        Assert.Equal(ResidualMeasure.HostTsc, forced.MeasuredBy);
    }

    [Fact]
    public void A_virtual_host_that_went_on_is_as_good_as_any()
    {
        var run = new Run(HostSpec.Ordinary with { IsVirtual = true });
        run.Time.Advance(s_night);
        run.AssertRight(ResidualMeasure.HostTsc, s_night);
    }

    [Fact]
    public void A_state_of_the_first_version_is_judged_by_the_time_of_day()
    {
        var run = new Run(HostSpec.Ordinary);
        run.State = run.State.With(host: Identity(run.State.Host, raw: null));
        run.Time.Advance(s_awake);
        run.AssertRight(ResidualMeasure.HostTsc, s_awake);
        run.Host.Pause(s_night);
        Refusal.AssertExplains(Assert.Throws<KvmException>(() => new TscRestore(run.Destination(), run.State, new TscRestoreOptions()).Run(CancellationToken.None)), KvmErrorId.ClocksDisagree);
    }

    private static KvmHostIdentity Identity(KvmHostIdentity host, ulong? raw, long suspended = 0) => new(
        host.MachineName, host.MachineId, host.BootId, host.KernelRelease, host.TscKHz, host.ClockStatus, host.MaxErrorMicroseconds, host.SlewPpm, host.TaiOffsetSeconds,
        raw is null ? null : host.HostTsc, raw is null ? null : host.RealtimeNanoseconds, raw, raw is null ? null : unchecked(host.SuspendedNanoseconds + (ulong)suspended), raw is null ? null : host.IsVirtual);

    private sealed class Run
    {
        private readonly SimulatedMachine _source;
        private readonly ulong _clock;

        public Run(HostSpec spec)
        {
            Time = new SimulatedTime();
            Host = new SimulatedHost(spec, Time);
            Time.Advance(TimeSpan.FromSeconds(600));
            _source = new SimulatedMachine(Host, 0, 1);
            _source.RunGuest();
            State = KvmTscState.Save(_source, force: false, CancellationToken.None);
            _clock = State.ClockNanoseconds;
        }

        public SimulatedTime Time { get; }

        public SimulatedHost Host { get; }

        public KvmTscState State { get; set; }

        public SimulatedMachine Destination() => new(Host, 0, 1);

        /// <summary>kvmclock and guest TSC are where they would be had the guest gone on for so long.</summary>
        public void AssertRight(ResidualMeasure measure, TimeSpan elapsed)
        {
            var destination = Destination();
            var result = new TscRestore(destination, State, new TscRestoreOptions()).Run(CancellationToken.None);
            Assert.Equal(measure, result.MeasuredBy);
            var rate = measure == ResidualMeasure.HostTsc ? Math.Abs((Host.Spec.TscHz / 1000.0 / Host.Spec.TscKHz) - 1) : 0; // by that TSC, whatever it is
            var slack = result.ErrorBoundNanoseconds + 100_000 + (rate * elapsed.TotalSeconds * 1e9); // the ioctls since
            Assert.InRange(result.NewClockNanoseconds - _clock - (elapsed.TotalSeconds * 1e9), -slack, slack);
            Assert.InRange(result.ErrorBoundNanoseconds, 0, 60e6);
        }
    }
}
