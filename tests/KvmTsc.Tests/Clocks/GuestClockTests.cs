using KvmTsc.Clocks;
using KvmTsc.Interop;
using KvmTsc.Tests.Simulation;

namespace KvmTsc.Tests.Clocks;

public sealed class GuestClockTests
{
    private readonly SimulatedMachine _machine = new(new SimulatedHost(HostSpec.Ordinary, new SimulatedTime()), 0, 1);

    [Fact]
    public void A_reading_of_a_VM_that_never_ran_has_no_triple()
    {
        var clock = GuestClock.Read(_machine, CancellationToken.None);
        Assert.Equal(KvmClockFlags.None, clock.Flags);
        Assert.Null(clock.HostTsc);
        Assert.Null(clock.RealtimeNanoseconds);
    }

    [Fact]
    public void A_reading_tells_what_the_kernel_gave_and_of_which_VM()
    {
        _machine.RunGuest();
        var clock = GuestClock.Read(_machine, CancellationToken.None);
        var kernel = _machine.Log[^1].Clock!;
        Assert.Equal((kernel.Clock, kernel.HostTsc, kernel.Realtime), (clock.ClockNanoseconds, clock.HostTsc, clock.RealtimeNanoseconds));
        Assert.Equal(KvmClockFlags.TscStable | KvmClockFlags.Realtime | KvmClockFlags.HostTsc, clock.Flags);
        Assert.Equal((_machine.Identity.Name, _machine.Identity.ProcessId, _machine.Identity.Id), (clock.VMName, clock.ProcessId, clock.VMId));
        Assert.Equal(12.5, clock.StoppedMicroseconds);
    }

    [Fact]
    public void Setting_gives_what_was_read_back()
    {
        var clock = GuestClock.Set(_machine, 1UL << 40, null, force: false, CancellationToken.None);
        Assert.Equal(_machine.Log[^1].Clock!.Clock, clock.ClockNanoseconds);
        Assert.InRange(clock.ClockNanoseconds, 1UL << 40, (1UL << 40) + 2000);
        Assert.NotNull(clock.HostTsc);
    }

    [Fact]
    public void With_a_realtime_the_time_since_is_added()
    {
        var realtime = _machine.HostNow.Realtime;
        _machine.SimulatedHost.Time.Advance(TimeSpan.FromSeconds(90));
        var clock = GuestClock.Set(_machine, 5, realtime, force: false, CancellationToken.None);
        Assert.InRange(clock.ClockNanoseconds, 90_000_000_005ul, 90_000_010_000ul);
    }

    [Fact]
    public void A_realtime_of_0_is_refused() =>
        Refusal.Of(_machine, KvmErrorId.RealtimeInvalid, () => GuestClock.Set(_machine, 5, 0, force: true, CancellationToken.None));

    [Theory]
    [InlineData(1, "0.000000 s")]
    [InlineData(2_500_000_000, "2.5 s")]
    public void A_realtime_in_the_future_is_refused_even_by_force(ulong ahead, string distance)
    {
        var exception = Refusal.Of(
            _machine, KvmErrorId.RealtimeInFuture, () => GuestClock.Set(_machine, 5, _machine.HostNow.Realtime + ahead, force: true, CancellationToken.None));
        Assert.Contains(distance.Replace("0.000000", "0", StringComparison.Ordinal), exception.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_clock_that_a_guest_has_seen_does_not_go_back_unless_by_force()
    {
        _machine.RunGuest();
        GuestClock.Set(_machine, 1UL << 40, null, force: false, CancellationToken.None);
        Refusal.Of(_machine, KvmErrorId.ClockBackwards, () => GuestClock.Set(_machine, 1UL << 39, null, force: false, CancellationToken.None));
        Refusal.Of(_machine, KvmErrorId.ClockBackwards, () => GuestClock.Preview(_machine, 1UL << 39, null, force: false, CancellationToken.None));
        Assert.InRange(GuestClock.Set(_machine, 1UL << 39, null, force: true, CancellationToken.None).ClockNanoseconds, 1UL << 39, 1UL << 40);
    }

    [Fact]
    public void What_counts_is_where_the_clock_will_be_with_the_time_since()
    {
        _machine.RunGuest();
        var realtime = _machine.HostNow.Realtime;
        GuestClock.Set(_machine, 1UL << 40, null, force: false, CancellationToken.None);
        _machine.SimulatedHost.Time.Advance(TimeSpan.FromSeconds(10));
        GuestClock.Set(_machine, (1UL << 40) + 1_000_000, realtime, force: false, CancellationToken.None);
    }

    [Fact]
    public void A_clock_that_no_guest_has_seen_may_go_back()
    {
        GuestClock.Set(_machine, 1UL << 40, null, force: false, CancellationToken.None);
        GuestClock.Set(_machine, 5, null, force: false, CancellationToken.None);
    }

    [Fact]
    public void A_preview_changes_nothing()
    {
        _machine.RunGuest();
        var (before, writes) = (_machine.VM.ClockBase, _machine.Writes.Count());
        var preview = GuestClock.Preview(_machine, 1UL << 40, null, force: false, CancellationToken.None);
        Assert.Equal(_machine.Log[^1].Clock!.Clock, preview.ClockNanoseconds);
        Assert.Equal((before, writes), (_machine.VM.ClockBase, _machine.Writes.Count()));
    }

    [Fact]
    public void A_clock_is_set_on_a_kernel_without_TSC_offsets_as_well()
    {
        var machine = new SimulatedMachine(new SimulatedHost(HostSpec.Ordinary with { OffsetErrno = 22 }, new SimulatedTime()), 0);
        machine.RunGuest();
        GuestClock.Set(machine, 1UL << 40, null, force: false, CancellationToken.None);
    }

    [Fact]
    public void More_than_73_years_is_what_KVM_makes_of_a_TSC_that_is_no_more()
    {
        Refusal.Of(_machine, KvmErrorId.InvalidValue, () => GuestClock.Set(_machine, 1UL << 61, null, force: true, CancellationToken.None));
        Refusal.Of(_machine, KvmErrorId.InvalidValue, () => GuestClock.Preview(_machine, ulong.MaxValue, null, force: true, CancellationToken.None));
    }

    [Theory]
    [InlineData(1UL << 61, KvmClockFlags.Realtime | KvmClockFlags.HostTsc, true)]
    [InlineData((1UL << 61) - 1, KvmClockFlags.Realtime | KvmClockFlags.HostTsc, false)]
    [InlineData(1UL << 61, KvmClockFlags.None, false)] // is not computed from a TSC of before
    public void A_kvmclock_of_centuries_is_doubted_where_it_was_computed_from_the_TSC(ulong clock, KvmClockFlags flags, bool isDoubted)
    {
        var doubt = GuestClock.DoubtOf(new KvmClock("web01", 12, "12:3", clock, 1, 1, flags, 0));
        Assert.Equal(isDoubted, doubt?.Contains("web01 has not run since", StringComparison.Ordinal) ?? false);
    }
}
