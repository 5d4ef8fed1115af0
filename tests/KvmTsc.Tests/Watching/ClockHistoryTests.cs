using KvmTsc.Clocks;
using KvmTsc.Migration;
using KvmTsc.Tests.Simulation;
using KvmTsc.Watching;

namespace KvmTsc.Tests.Watching;

/// <summary>What VMMs and guests do to the clocks, and what is made of it.</summary>
public sealed class ClockHistoryTests
{
    private const long Second = 1_000_000_000;

    [Fact]
    public void A_guest_that_runs_loses_nothing()
    {
        var guest = new Guest();
        guest.Run(TimeSpan.FromDays(30));
        Assert.Equal((ClockChange.None, true), (guest.Judge().Change, Math.Abs(guest.Judge().LostNanoseconds) < 5));
    }

    [Fact]
    public void A_pause_that_the_VMM_keeps_from_kvmclock_is_a_loss_to_the_nanosecond()
    {
        var guest = new Guest();
        guest.Pause(TimeSpan.FromSeconds(5));
        var verdict = guest.Judge();
        Assert.Equal(ClockChange.SetBack, verdict.Change);
        Assert.InRange(verdict.LostNanoseconds, 5 * Second, (5 * Second) + 10_000);
        guest.AssertCorrectedTo(guest.First);
    }

    [Fact]
    public void Several_pauses_are_a_loss_each()
    {
        var guest = new Guest();
        for (var i = 1; i <= 5; i++)
        {
            guest.Run(TimeSpan.FromSeconds(1));
            guest.Pause(TimeSpan.FromSeconds(i));
            Assert.InRange(guest.Judge().LostNanoseconds, i * Second, (i * Second) + 20_000);
            guest.AssertCorrectedTo(guest.First);
        }
    }

    [Theory]
    [InlineData(0)]
    [InlineData(20)]
    public void A_guest_that_is_put_back_to_a_snapshot_gets_both_clocks_of_its_line(int secondsLater)
    {
        var guest = new Guest();
        var snapshot = guest.Save();
        guest.Run(TimeSpan.FromSeconds(secondsLater));
        guest.Load(snapshot);
        Assert.Equal(ClockChange.SetBack, guest.Judge().Change);
        guest.AssertCorrectedTo(guest.First);
    }

    [Fact]
    public void A_snapshot_that_was_taken_long_into_a_pause_is_of_the_same_line()
    {
        var guest = new Guest();
        var snapshot = guest.Save(TimeSpan.FromSeconds(30)); // the TSC counts on, kvmclock was saved before
        guest.Run(TimeSpan.FromMinutes(5));
        guest.Load(snapshot);
        guest.AssertCorrectedTo(guest.First);
    }

    [Fact]
    public void A_snapshot_of_a_guest_that_ran_has_kvmclock_from_after_its_memory_was_written()
    {
        var guest = new Guest();
        var snapshot = guest.SaveTscFirst(TimeSpan.FromSeconds(4));
        guest.Run(TimeSpan.FromMinutes(5));
        guest.Load(snapshot);
        guest.AssertCorrectedTo(guest.First);
    }

    [Fact]
    public void A_snapshot_that_may_be_of_two_lines_is_left_alone()
    {
        var guest = new Guest();
        guest.Reset();
        guest.Learn();
        guest.Run(TimeSpan.FromSeconds(20));
        guest.Reset();
        var third = guest.Learn();
        guest.Run(TimeSpan.FromSeconds(7));
        var clear = guest.Save();
        var unclear = guest.Save(TimeSpan.FromSeconds(30));
        guest.Run(TimeSpan.FromMinutes(1));

        guest.Load(clear);
        guest.AssertCorrectedTo(third);
        guest.Load(unclear);
        Assert.Equal((ClockChange.Unknown, null), (guest.Judge().Change, guest.Judge().Line));
    }

    [Fact]
    public void A_reset_moves_the_TSC_and_is_left_alone()
    {
        var guest = new Guest();
        guest.Reset();
        Assert.Equal(ClockChange.TscMoved, guest.Judge().Change);
    }

    [Fact]
    public void A_guest_that_writes_its_TSC_is_left_alone_and_loses_nothing_in_a_pause_after_it()
    {
        var guest = new Guest();
        guest.WriteOwnTsc(0, -3 * Second);
        guest.WriteOwnTsc(1, -3 * Second);
        Assert.Equal(ClockChange.TscMoved, guest.Judge().Change);
        var written = guest.Learn();
        guest.Pause(TimeSpan.FromSeconds(5));
        guest.AssertCorrectedTo(written);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    public void TSCs_that_a_guest_parted_stay_so_when_kvmclock_is_given_back(int vcpuId)
    {
        var guest = new Guest();
        guest.WriteOwnTsc(vcpuId, -3 * Second);
        Assert.Equal((ClockChange.TscMoved, true), (guest.Judge().Change, guest.Machine.VM.MasterClock));
        var written = guest.Learn();
        guest.Pause(TimeSpan.FromSeconds(5));
        var verdict = guest.Judge();
        Assert.Equal((ClockChange.SetBack, written), (verdict.Change, verdict.Line));
        var offsets = guest.Machine.VM.Vcpus.Values.Select(vcpu => vcpu.Offset).ToArray();
        Assert.Equal(KvmErrorId.UnequalOffsets, Assert.Throws<KvmException>(() => new TscRestore(guest.Machine, written, new TscRestoreOptions())).ErrorId);
        new TscRestore(guest.Machine, written, new TscRestoreOptions { KeepsTsc = true }).Run(CancellationToken.None);
        Assert.Equal(offsets, guest.Machine.VM.Vcpus.Values.Select(vcpu => vcpu.Offset));
        Assert.Equal((ClockChange.None, true), (guest.Judge().Change, Math.Abs(guest.Judge().LostNanoseconds) < 20));
    }

    [Theory]
    [InlineData(-3)] // as if it had been put back to a moment before the pause
    [InlineData(20)]
    public void A_guest_that_writes_its_TSC_at_a_pause_is_not_taken_for_one_that_was_put_back(int seconds)
    {
        var guest = new Guest();
        guest.WriteOwnTsc(0, seconds * Second);
        guest.WriteOwnTsc(1, seconds * Second);
        guest.Pause(TimeSpan.FromSeconds(1));
        Assert.Equal((ClockChange.Unknown, null), (guest.Judge().Change, guest.Judge().Line));
    }

    [Fact]
    public void What_another_guest_of_the_same_process_wrote_does_not_matter()
    {
        var guest = new Guest();
        guest.WriteOwnTsc(0, 0);
        guest.Pause(TimeSpan.FromSeconds(1));
        guest.AssertCorrectedTo(guest.First);
    }

    [Fact]
    public void Of_a_guest_that_was_reset_each_snapshot_has_its_own_line()
    {
        var guest = new Guest();
        var before = guest.Save();
        guest.Run(TimeSpan.FromSeconds(50));
        guest.Reset();
        var second = guest.Learn();
        guest.Run(TimeSpan.FromSeconds(70));
        var after = guest.Save();
        guest.Run(TimeSpan.FromSeconds(100));

        guest.Load(before);
        guest.AssertCorrectedTo(guest.First);
        guest.Load(after);
        guest.AssertCorrectedTo(second);
        guest.Pause(TimeSpan.FromSeconds(3));
        guest.AssertCorrectedTo(second);
    }

    [Fact]
    public void A_snapshot_of_a_line_that_is_not_known_is_left_alone()
    {
        var guest = new Guest();
        var snapshot = guest.Save();
        snapshot = snapshot with { GuestTsc = snapshot.GuestTsc - (500UL * 1_000_000_000) };
        guest.Run(TimeSpan.FromSeconds(5));
        guest.Load(snapshot);
        Assert.Equal((ClockChange.Unknown, null), (guest.Judge().Change, guest.Judge().Line));
    }

    [Fact]
    public void A_guest_that_begins_anew_with_both_clocks_is_left_alone()
    {
        var guest = new Guest();
        guest.Run(TimeSpan.FromHours(5));
        guest.Load(new Snapshot(0, 0));
        Assert.Equal(ClockChange.Unknown, guest.Judge().Change);
    }

    [Fact]
    public void What_is_set_forward_is_nothing_to_be_given_back()
    {
        var guest = new Guest();
        guest.SetClock(guest.Machine.VM.ReadClock().Clock + (9UL * (ulong)Second));
        Assert.Equal((ClockChange.SetForward, null), (guest.Judge().Change, guest.Judge().Line));
    }

    [Fact]
    public void Without_a_master_clock_nothing_can_be_told()
    {
        var guest = new Guest();
        Semantics.Raw.SetOffset(guest.Machine, 1, 5);
        guest.Machine.RunGuest();
        Assert.Equal(ClockChange.MasterClockLost, guest.Judge().Change);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(300_000_000)] // CLOCK_REALTIME was set meanwhile
    [InlineData(-300_000_000)]
    public void A_guest_that_a_new_process_gave_the_time_on_kvmclock_alone_gets_its_TSC(long beside)
    {
        var guest = new Guest();
        var snapshot = guest.Save();
        guest.Run(TimeSpan.FromMinutes(2));
        guest.Load(snapshot);
        guest.SetClock(unchecked(guest.ClockOfFirst + (ulong)beside));
        var verdict = guest.Judge(isSuccessor: true);
        Assert.Equal((ClockChange.SetBack, guest.First), (verdict.Change, verdict.Line));
        Assert.InRange(verdict.LostNanoseconds, 120 * Second, 123 * Second); // of its TSC
        Assert.NotEqual(guest.First, guest.Judge().Line); // in its own process it may have been reset
    }

    [Fact]
    public void A_new_process_may_have_kvmclock_of_long_before_its_TSC()
    {
        var guest = new Guest();
        var snapshot = guest.Save(TimeSpan.FromHours(3)); // it was paused all the while, or once, with crosvm
        guest.Run(TimeSpan.FromMinutes(5));
        guest.Load(snapshot);
        Assert.Equal((ClockChange.Unknown, null), (guest.Judge().Change, guest.Judge().Line));
        Assert.Equal((ClockChange.SetBack, guest.First), (guest.Judge(isSuccessor: true).Change, guest.Judge(isSuccessor: true).Line));
    }

    [Fact]
    public void A_new_process_whose_guest_has_a_later_TSC_is_no_successor()
    {
        var guest = new Guest();
        guest.WriteTsc(guest.Machine.VM.Vcpus[0].GuestTscNow + (5UL * (ulong)Second));
        Assert.Equal(ClockChange.TscMoved, guest.Judge(isSuccessor: true).Change);
    }

    [Fact]
    public void A_new_process_whose_kvmclock_is_far_from_its_line_is_no_successor()
    {
        var guest = new Guest();
        var snapshot = guest.Save();
        guest.Run(TimeSpan.FromMinutes(2));
        guest.Load(snapshot);
        guest.SetClock(guest.ClockOfFirst - (5UL * (ulong)Second));
        Assert.Equal(ClockChange.Unknown, guest.Judge(isSuccessor: true).Change);
    }

    private sealed record Snapshot(ulong Clock, ulong GuestTsc);

    private sealed class Guest
    {
        private ulong? _offsetsWritten;
        private ulong? _clockSet;
        private bool _byGuest;

        public Guest()
        {
            Host = new SimulatedHost(HostSpec.Ordinary with { TscHz = 1_000_000_000 }, new SimulatedTime());
            Machine = new SimulatedMachine(Host, 0, 1);
            SetClock(0);
            Machine.RunGuest();
            Run(TimeSpan.FromMinutes(10));
            First = Learn();
        }

        public SimulatedHost Host { get; }

        public SimulatedMachine Machine { get; }

        public KvmTscState First { get; }

        public ClockHistory History { get; } = new();

        public void Run(TimeSpan time) => Host.Time.Advance(time);

        public KvmTscState Learn()
        {
            var line = KvmTscState.Save(Machine, force: true, CancellationToken.None);
            History.Add(line);
            (_offsetsWritten, _clockSet, _byGuest) = (null, null, false);
            return line;
        }

        public ClockVerdict Judge(bool isSuccessor = false) =>
            History.Judge(TscSnapshot.Of(Machine).Take(CancellationToken.None).Result, _offsetsWritten, _clockSet, _byGuest, isSuccessor);

        /// <summary>kvmclock, had nobody touched it.</summary>
        public ulong ClockOfFirst => First.ClockNanoseconds + (Host.Tsc - First.HostTsc);

        /// <summary>As QEMU does it with stop and cont.</summary>
        public void Pause(TimeSpan time)
        {
            var clock = Machine.VM.ReadClock().Clock;
            Run(time);
            SetClock(clock);
        }

        /// <summary>As QEMU does it with savevm: kvmclock when the VM is stopped, the TSC when its vCPUs are saved.</summary>
        public Snapshot Save(TimeSpan inBetween = default)
        {
            var clock = Machine.VM.ReadClock().Clock;
            Run(inBetween);
            return new Snapshot(clock, Machine.VM.Vcpus[0].GuestTscNow);
        }

        /// <summary>As QEMU does it with a guest that it stops itself: kvmclock when its devices are saved, the TSC when its vCPUs were.</summary>
        public Snapshot SaveTscFirst(TimeSpan inBetween)
        {
            var tsc = Machine.VM.Vcpus[0].GuestTscNow;
            Run(inBetween);
            return new Snapshot(Machine.VM.ReadClock().Clock, tsc);
        }

        /// <summary>As QEMU does it with loadvm.</summary>
        public void Load(Snapshot snapshot)
        {
            WriteTsc(snapshot.GuestTsc);
            Run(TimeSpan.FromSeconds(2));
            SetClock(snapshot.Clock);
        }

        public void Reset() => WriteTsc(0);

        /// <summary>As a guest does it, with WRMSR: KVM keeps no track of it.</summary>
        public void WriteOwnTsc(int vcpuId, long ticks)
        {
            (_offsetsWritten, _byGuest) = (Host.Tsc, true);
            Machine.VM.Vcpus[vcpuId].Offset = unchecked(Machine.VM.Vcpus[vcpuId].Offset + (ulong)ticks);
        }

        public void SetClock(ulong value)
        {
            _clockSet = Host.Tsc;
            GuestClock.Set(Machine, value, null, force: true, CancellationToken.None);
        }

        /// <summary>Both clocks are right once they were corrected as it is judged.</summary>
        public void AssertCorrectedTo(KvmTscState line)
        {
            var verdict = Judge();
            Assert.Equal((ClockChange.SetBack, line), (verdict.Change, verdict.Line));
            new TscRestore(Machine, verdict.Line!, new TscRestoreOptions()).Run(CancellationToken.None);
            History.Add(line);
            (_offsetsWritten, _clockSet) = (null, null);
            Assert.All(Machine.VM.Vcpus.Values, vcpu => Assert.Equal(unchecked((ulong)line.Vcpus[0].OffsetTicks), vcpu.Offset));
            var now = Judge();
            Assert.Equal((ClockChange.None, true), (now.Change, Math.Abs(now.LostNanoseconds) < 20));
        }

        public void WriteTsc(ulong value)
        {
            var offset = unchecked(value - Host.Tsc);
            _offsetsWritten = Host.Tsc;
            foreach (var id in Machine.VcpuIds)
                Semantics.Raw.SetOffset(Machine, id, offset);
            Machine.RunGuest();
        }
    }
}
