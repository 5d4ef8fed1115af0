using KvmTsc.Arithmetic;
using KvmTsc.Clocks;
using KvmTsc.Execution;
using KvmTsc.Interop;
using KvmTsc.Machines;

namespace KvmTsc.Tests.Semantics;

/// <summary>
/// What the kernel does, on which the engine builds. The same tests run against the simulated host and against a real kernel, so that
/// neither the simulation nor docs can be wrong alone.
/// </summary>
public abstract class KernelSemantics
{
    private const uint AllFlags = 0xE;

    private protected abstract Machine CreateWithoutClock(int vcpuCount);

    private protected abstract void RunGuest(Machine machine);

    private protected Machine Create(int vcpuCount)
    {
        var machine = CreateWithoutClock(vcpuCount);
        Assert.True(Raw.SetClock(machine, default).Succeeded);
        return machine;
    }

    [Fact]
    public void A_VM_that_never_ran_gives_its_clock_without_flags()
    {
        var clock = Raw.GetClock(CreateWithoutClock(2));
        Assert.Equal((0u, 0ul, 0ul), (clock.Flags, clock.Realtime, clock.HostTsc));
    }

    [Fact]
    public void Setting_the_clock_of_a_VM_that_never_ran_turns_its_master_clock_on()
    {
        var machine = CreateWithoutClock(3);
        Assert.True(Raw.SetClock(machine, default).Succeeded);
        Assert.Equal(AllFlags, Raw.GetClock(machine).Flags);
    }

    [Fact]
    public void Running_turns_the_master_clock_on()
    {
        var machine = CreateWithoutClock(2);
        RunGuest(machine);
        Assert.Equal(AllFlags, Raw.GetClock(machine).Flags);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(0x10)]
    [InlineData(0x1F)]
    [InlineData(0x80000000)]
    public void Unknown_flags_are_refused_with_EINVAL(uint flags)
    {
        var machine = Create(1);
        var before = Raw.GetClock(machine);
        Assert.Equal(Raw.EINVAL, Raw.SetClock(machine, new KvmClockData { Clock = 1UL << 50, Flags = flags, Realtime = before.Realtime }).ErrorNumber);
        Assert.True(Raw.GetClock(machine).Clock < 1UL << 50);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(2)]
    [InlineData(8)]
    [InlineData(0xA)]
    public void Without_the_realtime_flag_the_clock_is_set_as_it_is(uint flags)
    {
        const ulong Target = 1UL << 50;
        var machine = Create(2);
        var (before, after) = Raw.SetClockBetweenReadings(machine, clock => new KvmClockData { Clock = Target, Flags = flags, Realtime = clock.Realtime - 7_000_000_000 });
        AssertAdvancedByNoMoreThan(machine, Target, before, after);
    }

    [Fact]
    public void A_realtime_in_the_past_advances_the_clock_by_the_time_since()
    {
        const ulong Target = 1UL << 50, Ago = 7_000_000_000;
        var machine = Create(2);
        KvmClockData source = default;
        var (before, after) = Raw.SetClockBetweenReadings(machine, clock =>
        {
            source = clock;
            return new KvmClockData { Clock = Target, Flags = AllFlags, Realtime = clock.Realtime - Ago, HostTsc = 5 };
        });
        var advanced = after.Clock - Target;
        Assert.InRange(advanced, Ago, Ago + (after.Realtime - source.Realtime) + Passed(machine, before, after));
    }

    [Theory]
    [InlineData(1_000_000_000_000)]
    [InlineData(3_600_000_000_000_000)]
    public void A_realtime_in_the_future_silently_advances_nothing(ulong ahead)
    {
        const ulong Target = 1UL << 50;
        var machine = Create(1);
        var (before, after) = Raw.SetClockBetweenReadings(
            machine, clock => new KvmClockData { Clock = Target, Flags = 4, Realtime = clock.Realtime + ahead });
        AssertAdvancedByNoMoreThan(machine, Target, before, after);
    }

    [Fact]
    public void The_clock_may_be_set_backwards()
    {
        var machine = Create(1);
        Raw.SetClock(machine, new KvmClockData { Clock = 1UL << 60 });
        var (before, after) = Raw.SetClockBetweenReadings(machine, _ => new KvmClockData { Clock = 5 });
        Assert.True(before.Clock >= 1UL << 60);
        AssertAdvancedByNoMoreThan(machine, 5, before, after);
    }

    [Fact]
    public void Unequal_offsets_turn_the_master_clock_off_when_the_guest_runs()
    {
        var machine = Create(3);
        Raw.SetOffset(machine, 1, 12_345);
        RunGuest(machine);
        var clock = Raw.GetClock(machine);
        Assert.Equal((0u, 0ul, 0ul), (clock.Flags, clock.Realtime, clock.HostTsc));
    }

    [Fact]
    public void Unequal_offsets_turn_the_master_clock_off_when_the_clock_is_set()
    {
        var machine = Create(3);
        Raw.SetOffset(machine, 2, 12_345);
        Raw.SetClock(machine, default);
        Assert.Equal(0u, Raw.GetClock(machine).Flags);
    }

    [Fact]
    public void Until_the_guest_runs_or_the_clock_is_set_unequal_offsets_leave_the_master_clock_on()
    {
        var machine = Create(2);
        Raw.SetOffset(machine, 1, 12_345);
        Assert.Equal(AllFlags, Raw.GetClock(machine).Flags);
    }

    [Fact]
    public void Writing_the_odd_offset_back_does_not_turn_the_master_clock_on_but_writing_all_does()
    {
        var machine = Create(3);
        var offset = Raw.GetOffset(machine, 0);
        Raw.SetOffset(machine, 1, 12_345);
        RunGuest(machine);
        Raw.SetOffset(machine, 1, offset);
        RunGuest(machine);
        Assert.Equal(0u, Raw.GetClock(machine).Flags);

        foreach (var id in machine.VcpuIds)
            Raw.SetOffset(machine, id, offset);
        RunGuest(machine);
        Assert.Equal(AllFlags, Raw.GetClock(machine).Flags);
    }

    [Fact]
    public void Offsets_are_taken_as_they_are()
    {
        var machine = Create(2);
        foreach (var offset in (ulong[])[0, 1, ulong.MaxValue, 1UL << 63, (1UL << 63) - 1, 180_000_000_000, unchecked((ulong)-180_000_000_000)])
        {
            Raw.SetOffset(machine, 1, offset);
            Assert.Equal(offset, Raw.GetOffset(machine, 1));
        }
    }

    [Theory]
    [InlineData(0, 0, 0)]
    [InlineData(0, 7, Raw.ENXIO)]
    [InlineData(1, 0, Raw.ENXIO)]
    public void Only_the_offset_is_an_attribute(uint group, ulong attribute, int errno)
    {
        Assert.Equal(errno, Raw.HasAttribute(Create(1), 0, group, attribute).ErrorNumber);
    }

    [Fact]
    public void A_frequency_of_0_is_the_hosts()
    {
        var machine = Create(1);
        Assert.True(Raw.SetTscKHz(machine, 0, 0).Succeeded);
        Assert.Equal(machine.HostTsc.KHz, Raw.GetTscKHz(machine, 0));
    }

    [Fact]
    public void A_frequency_within_the_tolerance_is_taken()
    {
        var machine = Create(1);
        var kHz = machine.HostTsc.KHz + (machine.HostTsc.KHz / 10_000);
        Assert.True(Raw.SetTscKHz(machine, 0, kHz).Succeeded);
        Assert.Equal(kHz, Raw.GetTscKHz(machine, 0));
    }

    [Fact]
    public void A_slower_frequency_is_refused_without_scaling_and_kept_in_mind_all_the_same()
    {
        var machine = Create(1);
        var kHz = machine.HostTsc.KHz / 2;
        var outcome = Raw.SetTscKHz(machine, 0, kHz);
        if (machine.HostTsc.HasScaling)
            Assert.True(outcome.Succeeded);
        else
            Assert.Equal(Raw.EINVAL, outcome.ErrorNumber);
        Assert.Equal(kHz, Raw.GetTscKHz(machine, 0));
    }

    [Fact]
    public void A_frequency_does_not_touch_the_offset()
    {
        var machine = Create(1);
        Raw.SetOffset(machine, 0, 987_654_321);
        Raw.SetTscKHz(machine, 0, machine.HostTsc.KHz * 2);
        Assert.Equal(987_654_321ul, Raw.GetOffset(machine, 0));
    }

    [Fact]
    public void A_guest_without_kvmclock_cannot_be_told_that_it_was_stopped()
    {
        var machine = Create(1);
        var batch = new IoctlBatch();
        batch.Add(new BatchStep(BatchStepKind.Ioctl, 0, KvmRequest.KvmclockCtrl, 0, ArgumentIsSlot: false));
        Assert.Equal(Raw.EINVAL, Raw.Run(machine, batch).ErrorNumber);
    }

    [Theory]
    [InlineData(KvmMsr.TscDeadline, 1)]
    [InlineData(0xDEAD0000, 0)]
    public void An_MSR_that_does_not_exist_is_no_error_but_none_read(uint index, int read)
    {
        var machine = Create(1);
        var batch = new IoctlBatch();
        var (msr, result) = (batch.Reserve(new KvmMsr { Count = 1, Index = index }), batch.Reserve<int>());
        batch.Add(new BatchStep(BatchStepKind.Ioctl, 0, KvmRequest.GetMsrs, msr.Offset, ArgumentIsSlot: true, ResultSlot: result.Offset));
        Assert.True(Raw.Run(machine, batch).Succeeded);
        Assert.Equal((read, 0ul), (batch.Read(result), batch.Read(msr).Data));
    }

    [Theory]
    [InlineData(KvmMsr.KvmSystemTime, KvmGuestClocks.Kvmclock)]
    [InlineData(KvmMsr.KvmSystemTimeNew, KvmGuestClocks.Kvmclock)]
    [InlineData(KvmMsr.HyperVReferenceTsc, KvmGuestClocks.HyperV)]
    public void The_clocks_that_a_guest_turns_on_are_seen(uint index, KvmGuestClocks clock)
    {
        var machine = Create(2);
        Assert.Equal(KvmGuestClocks.None, TscSnapshot.Of(machine, asksGuestClocks: true).Take(CancellationToken.None).Result.GuestClocks);
        Raw.SetMsr(machine, 0, index, 0x1001);
        Assert.Equal(clock, TscSnapshot.Of(machine, asksGuestClocks: true).Take(CancellationToken.None).Result.GuestClocks);
    }

    [Fact]
    public void An_ioctl_that_does_not_exist_is_EINVAL_on_a_vCPU()
    {
        var machine = Create(1);
        var batch = new IoctlBatch();
        batch.Add(new BatchStep(BatchStepKind.Ioctl, 0, Ioctl.Io(0xAE, 0xFE), 0, ArgumentIsSlot: false));
        Assert.Equal(Raw.EINVAL, Raw.Run(machine, batch).ErrorNumber);
    }

    /// <summary>kvmclock went on from where it was set, by no more than passed between the readings around the setting.</summary>
    private static void AssertAdvancedByNoMoreThan(Machine machine, ulong target, KvmClockData before, KvmClockData after) =>
        Assert.InRange(after.Clock - target, 0ul, Passed(machine, before, after));

    private static ulong Passed(Machine machine, KvmClockData before, KvmClockData after) =>
        PvclockScale.ToNanoseconds(machine.HostTsc.KHz).Apply(after.HostTsc - before.HostTsc) + 1;
}
