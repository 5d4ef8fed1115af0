using KvmTsc.Clocks;
using KvmTsc.Tests.Semantics;
using KvmTsc.Tests.Simulation;

namespace KvmTsc.Tests.Clocks;

public sealed class GuestTscTests
{
    private readonly SimulatedMachine _machine = Machine(TscScaling.None);

    [Fact]
    public void Offsets_are_read_of_all_vCPUs_or_of_those_named_in_ascending_order()
    {
        Raw.SetOffset(_machine, 4, 77);
        Assert.Equal([0, 2, 4], GuestTsc.ReadOffsets(_machine, null, CancellationToken.None).Select(offset => offset.VcpuId));
        var some = GuestTsc.ReadOffsets(_machine, [4, 0, 4], CancellationToken.None);
        Assert.Equal([0, 4], some.Select(offset => offset.VcpuId));
        Assert.Equal(77, some[1].OffsetTicks);
        Assert.Equal((_machine.Identity.Name, 12.5), (some[1].VMName, some[1].StoppedMicroseconds));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(-1)]
    [InlineData(long.MinValue)]
    [InlineData(long.MaxValue)]
    public void An_offset_can_be_any(long offset)
    {
        GuestTsc.SetOffsets(_machine, All(offset), force: false, CancellationToken.None);
        Assert.All(GuestTsc.ReadOffsets(_machine, null, CancellationToken.None), read => Assert.Equal(offset, read.OffsetTicks));
    }

    [Fact]
    public void Offsets_that_would_differ_are_refused_unless_by_force()
    {
        var exception = Refusal.Of(_machine, KvmErrorId.UnequalOffsets, () => Set(2, 5, force: false));
        Assert.Contains("2 different", exception.Message, StringComparison.Ordinal);
        Refusal.Of(_machine, KvmErrorId.UnequalOffsets, () => GuestTsc.PreviewOffsets(_machine, new Dictionary<int, long> { [2] = 5 }, force: false, CancellationToken.None));
        Set(2, 5, force: true);
        Assert.Equal(5ul, _machine.VM.Vcpus[2].Offset);
    }

    [Fact]
    public void By_force_only_the_vCPUs_named_are_written()
    {
        Set(2, 5, force: true);
        Assert.Equal([(int?)2], _machine.Writes.Where(write => write.Request == KvmIoctl.SetDeviceAttr).Select(write => write.VcpuId));
        Assert.All(_machine.Writes.Where(write => write.VcpuId is not null), write => Assert.Equal(2, write.VcpuId));
    }

    [Fact]
    public void An_odd_offset_that_is_put_right_brings_the_master_clock_back()
    {
        _machine.RunGuest();
        var offset = unchecked((long)_machine.VM.Vcpus[0].Offset);
        Set(2, offset + 5, force: true);
        _machine.RunGuest();
        Assert.False(_machine.VM.MasterClock);
        Set(2, offset, force: true);
        _machine.RunGuest();
        Assert.True(_machine.VM.MasterClock);
    }

    [Fact]
    public void A_TSC_that_a_guest_has_seen_does_not_go_back_unless_by_force()
    {
        _machine.RunGuest();
        GuestTsc.SetOffsets(_machine, All(1L << 50), force: false, CancellationToken.None);
        var exception = Refusal.Of(
            _machine, KvmErrorId.GuestTscBackwards, () => GuestTsc.SetOffsets(_machine, All((1L << 50) - 1), force: false, CancellationToken.None));
        Assert.Equal(0, exception.VcpuId);
        Assert.Contains("1 ticks", exception.Message, StringComparison.Ordinal);
        Refusal.Of(_machine, KvmErrorId.GuestTscBackwards, () => GuestTsc.PreviewOffsets(_machine, All(0), force: false, CancellationToken.None));
        GuestTsc.SetOffsets(_machine, All(0), force: true, CancellationToken.None);
    }

    /// <summary>KVM takes its master clock anew from a clock that runs beside kvmclock: left alone, 182 ms in 30 days at 2399998 kHz.</summary>
    [Theory]
    [InlineData(2_399_998u)]
    [InlineData(2_995_200u)]
    [InlineData(2_096_012u)]
    public void Kvmclock_goes_on_where_offsets_are_written(uint kHz)
    {
        var machine = new SimulatedMachine(new SimulatedHost(new HostSpec(kHz * 1000UL, kHz, 1, TscScaling.None), new SimulatedTime()), 0, 2);
        GuestClock.Set(machine, 5_000_000_000, null, force: true, CancellationToken.None);
        machine.RunGuest();
        machine.SimulatedHost.Time.Advance(TimeSpan.FromDays(30));
        var before = machine.VM.ReadClock();
        var offset = unchecked((long)machine.VM.Vcpus[0].Offset);
        GuestTsc.SetOffsets(machine, new Dictionary<int, long> { [0] = offset, [2] = offset }, force: false, CancellationToken.None);
        machine.RunGuest();
        var after = machine.VM.ReadClock();
        var due = before.Clock + SimulatedVM.PvclockNanoseconds(after.HostTsc - before.HostTsc, kHz);
        Assert.InRange(Math.Abs((double)after.Clock - due), 0, 5);

        GuestTsc.SetOffsets(machine, new Dictionary<int, long> { [2] = offset + 1 }, force: true, CancellationToken.None);
        machine.RunGuest();
        GuestTsc.SetOffsets(machine, new Dictionary<int, long> { [0] = offset + 2, [2] = offset + 3 }, force: true, CancellationToken.None);
        machine.RunGuest();
        var now = machine.VM.ReadClock();
        Assert.Equal(0u, now.Flags);
        Assert.InRange(Math.Abs((now.Clock - (double)after.Clock) - ((now.Picoseconds - after.Picoseconds) / 1e3)), 0, 10_000);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_guest_that_ran_goes_on_from_its_TSC_where_its_frequency_is_set(bool isIntel)
    {
        var spec = new HostSpec(2_596_102_000, 2_596_102, 1, isIntel ? TscScaling.Intel : TscScaling.Amd);
        var machine = new SimulatedMachine(new SimulatedHost(spec, new SimulatedTime()), 0, 2);
        machine.RunGuest();
        machine.SimulatedHost.Time.Advance(TimeSpan.FromDays(30));
        var (tsc, clock) = (machine.VM.Vcpus[0].GuestTscNow, machine.VM.ReadClock().Clock);
        GuestTsc.SetFrequencies(machine, new Dictionary<int, uint> { [0] = 2_400_000, [2] = 2_400_000 }, force: false, CancellationToken.None);
        machine.RunGuest();
        Assert.All(machine.VM.Vcpus.Values, vcpu => Assert.InRange(vcpu.GuestTscNow - tsc, 0UL, 2_400_000UL)); // a millisecond
        Assert.InRange(machine.VM.ReadClock().Clock - clock, 0UL, 1_000_000UL);
        Assert.True(machine.VM.MasterClock);
    }

    [Fact]
    public void A_guest_that_ran_and_one_vCPU_of_it_go_on_without_a_master_clock()
    {
        var machine = Machine(TscScaling.Intel);
        machine.RunGuest();
        machine.SimulatedHost.Time.Advance(TimeSpan.FromDays(30));
        var tsc = machine.VM.Vcpus[2].GuestTscNow;
        GuestTsc.SetFrequencies(machine, new Dictionary<int, uint> { [2] = 900_000 }, force: false, CancellationToken.None);
        Assert.InRange(machine.VM.Vcpus[2].GuestTscNow - tsc, 0UL, 1_000_000UL);
    }

    [Fact]
    public void A_TSC_that_no_guest_has_seen_may_go_back()
    {
        GuestTsc.SetOffsets(_machine, All(1L << 50), force: false, CancellationToken.None);
        GuestTsc.SetOffsets(_machine, All(5), force: false, CancellationToken.None);
    }

    [Fact]
    public void A_preview_gives_the_offsets_as_they_are_and_changes_nothing()
    {
        GuestTsc.SetOffsets(_machine, All(50), force: false, CancellationToken.None);
        var writes = _machine.Writes.Count();
        Assert.All(GuestTsc.PreviewOffsets(_machine, All(60), force: false, CancellationToken.None), offset => Assert.Equal(50, offset.OffsetTicks));
        Assert.Equal(writes, _machine.Writes.Count());
    }

    [Fact]
    public void A_vCPU_that_does_not_exist_is_named()
    {
        Action[] actions =
        [
            () => GuestTsc.ReadOffsets(_machine, [0, 1], CancellationToken.None),
            () => GuestTsc.ReadFrequencies(_machine, [1], CancellationToken.None),
            () => Set(1, 5, force: true),
            () => GuestTsc.SetFrequencies(_machine, new Dictionary<int, uint> { [1] = 1_000_000 }, force: true, CancellationToken.None),
            () => GuestTsc.PreviewFrequencies(_machine, new Dictionary<int, uint> { [1] = 1_000_000 }, force: true, CancellationToken.None),
        ];
        foreach (var action in actions)
        {
            var exception = Refusal.Of(_machine, KvmErrorId.VcpuNotFound, action);
            Assert.Equal(1, exception.VcpuId);
            Assert.Contains("0, 2, 4", exception.Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void To_set_nothing_is_refused()
    {
        Refusal.Of(_machine, KvmErrorId.InvalidValue, () => GuestTsc.SetOffsets(_machine, new Dictionary<int, long>(), force: true, CancellationToken.None));
        Refusal.Of(_machine, KvmErrorId.InvalidValue, () => GuestTsc.SetFrequencies(_machine, new Dictionary<int, uint>(), force: true, CancellationToken.None));
    }

    [Theory]
    [InlineData(48, 3ul << 47)]
    [InlineData(32, 3ul << 31)]
    public void A_scaled_frequency_is_told_with_its_ratio(int fractionBits, ulong ratio)
    {
        var machine = Machine(fractionBits == 48 ? TscScaling.Intel : TscScaling.Amd);
        GuestTsc.SetFrequencies(machine, machine.VcpuIds.ToDictionary(id => id, _ => 1_500_000u), force: false, CancellationToken.None);
        var frequency = GuestTsc.ReadFrequencies(machine, [2], CancellationToken.None).Single();
        Assert.Equal((2, 1_500_000u, 1_000_000u), (frequency.VcpuId, frequency.TscKHz, frequency.HostTscKHz));
        Assert.Equal((ratio, fractionBits, 0.0), (frequency.ScalingRatio, frequency.ScalingFractionBits, frequency.UnscaledPpm));
        Assert.Equal(ratio, machine.VM.Vcpus[2].Ratio);
    }

    [Fact]
    public void Without_scaling_a_frequency_has_no_ratio()
    {
        var frequency = GuestTsc.ReadFrequencies(_machine, [2], CancellationToken.None).Single();
        Assert.Equal((2, 1_000_000u, 1_000_000u), (frequency.VcpuId, frequency.TscKHz, frequency.HostTscKHz));
        Assert.Equal((0ul, 0, 0.0), (frequency.ScalingRatio, frequency.ScalingFractionBits, frequency.UnscaledPpm));
    }

    [Fact]
    public void What_the_tolerance_leaves_unscaled_is_told()
    {
        GuestTsc.SetFrequencies(_machine, new Dictionary<int, uint> { [0] = 999_800, [2] = 1_000_200, [4] = 1_000_000 }, force: false, CancellationToken.None);
        var frequencies = GuestTsc.ReadFrequencies(_machine, null, CancellationToken.None);
        Assert.Equal(200, frequencies[0].UnscaledPpm, tolerance: 0.1);
        Assert.Equal(-200, frequencies[1].UnscaledPpm, tolerance: 0.1);
        Assert.Equal(0, frequencies[2].UnscaledPpm);
    }

    [Fact]
    public void Frequencies_are_read_back()
    {
        _machine.Meddle = ioctl =>
        {
            if (ioctl.Request == KvmIoctl.SetTscKHz)
                _machine.VM.Vcpus[ioctl.VcpuId!.Value].VirtualKHz = 1_000_050;
        };
        var frequency = GuestTsc.SetFrequencies(_machine, new Dictionary<int, uint> { [4] = 1_000_100 }, force: false, CancellationToken.None).Single();
        Assert.Equal((4, 1_000_050u), (frequency.VcpuId, frequency.TscKHz));
    }

    [Fact]
    public void A_frequency_that_a_vCPU_has_already_is_not_written()
    {
        GuestTsc.SetFrequencies(_machine, new Dictionary<int, uint> { [0] = 1_000_000, [4] = 1_000_100 }, force: false, CancellationToken.None);
        Assert.Equal([(int?)4], _machine.Writes.Select(write => write.VcpuId));
    }

    [Theory]
    [InlineData(0u, "0 kHz", false)]
    [InlineData(0u, "0 kHz", true)]
    [InlineData(999_000u, "slower", false)]
    [InlineData(999_000u, "slower", true)]
    [InlineData(1_001_000u, "faster", false)]
    [InlineData(2_147_483_648u, "more than", true)]
    public void A_frequency_that_cannot_be_had_is_refused(uint kHz, string why, bool force)
    {
        var frequencies = new Dictionary<int, uint> { [0] = 1_000_100, [2] = kHz };
        var exception = Refusal.Of(
            _machine, KvmErrorId.FrequencyUnsupported, () => GuestTsc.SetFrequencies(_machine, frequencies, force, CancellationToken.None));
        Assert.Contains(why, exception.Message, StringComparison.Ordinal);
        Refusal.Of(_machine, KvmErrorId.FrequencyUnsupported, () => GuestTsc.PreviewFrequencies(_machine, frequencies, force, CancellationToken.None));
    }

    [Fact]
    public void By_force_a_faster_guest_is_chased_in_software()
    {
        GuestTsc.SetFrequencies(_machine, new Dictionary<int, uint> { [0] = 1_001_000 }, force: true, CancellationToken.None);
        Assert.True(_machine.VM.Vcpus[0].CatchUp);
    }

    [Fact]
    public void The_preview_of_a_frequency_gives_it_as_it_is()
    {
        var preview = GuestTsc.PreviewFrequencies(_machine, new Dictionary<int, uint> { [4] = 1_000_100 }, force: false, CancellationToken.None).Single();
        Assert.Equal((4, 1_000_000u), (preview.VcpuId, preview.TscKHz));
        Assert.Empty(_machine.Writes);
    }

    private static SimulatedMachine Machine(TscScaling scaling) => new(new SimulatedHost(HostSpec.Ordinary with { Scaling = scaling }, new SimulatedTime()), 0, 2, 4);

    private static Dictionary<int, long> All(long offset) => new() { [0] = offset, [2] = offset, [4] = offset };

    private void Set(int vcpuId, long offset, bool force) =>
        GuestTsc.SetOffsets(_machine, new Dictionary<int, long> { [vcpuId] = offset }, force, CancellationToken.None);
}
