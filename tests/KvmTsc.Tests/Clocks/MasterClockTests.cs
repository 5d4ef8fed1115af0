using FsCheck;
using FsCheck.Fluent;
using KvmTsc.Arithmetic;
using KvmTsc.Clocks;
using KvmTsc.Interop;
using KvmTsc.Tests.Semantics;
using KvmTsc.Tests.Simulation;

namespace KvmTsc.Tests.Clocks;

/// <summary>Repairs of VMs whose master clock is off.</summary>
public sealed class MasterClockTests
{
    private const uint AllFlags = 0xE;

    /// <summary>Hosts, vCPUs and offsets of any kind, all within a second of the first vCPU's.</summary>
    private static Gen<(MigrationScenario Scenario, ulong[] Offsets, bool Noticed)> Diverged { get; } =
        from scenario in MigrationScenario.Any
        from first in Numbers.Counter
        from spread in Gen.ArrayOf(Numbers.Between(-scenario.GuestKHz * 499L, scenario.GuestKHz * 499L), scenario.VcpuCount)
        from noticed in Gen.Elements(true, false)
        select (scenario, spread.Select(ticks => unchecked(first + (ulong)ticks)).ToArray(), noticed);

    [Fact]
    public void Whatever_the_offsets_all_vCPUs_get_the_largest_and_the_master_clock_is_back() => Properties.Hold(Diverged, given =>
    {
        var machine = MachineOf(given.Scenario, given.Offsets);
        if (given.Noticed)
            machine.RunGuest();
        var (before, readAt) = (machine.Picture(), machine.VM.ReadClock());
        var (raw, stops) = (machine.SimulatedHost.RawNanoseconds, machine.Stops);

        var result = MasterClock.Repair(machine, MasterClock.DefaultMaximumAdvanceSeconds, force: true, CancellationToken.None);
        machine.RunGuest();

        Assert.Equal(stops + 1, machine.Stops);
        var offset = Assert.Single(machine.Picture().Select(vcpu => vcpu.Offset).Distinct());
        Assert.Contains(offset, given.Offsets);
        Assert.All(before, vcpu => Assert.InRange(TscArithmetic.Distance(vcpu.Offset, offset), 0, given.Scenario.GuestKHz * 998L));
        var now = machine.VM.ReadClock();
        Assert.Equal((AllFlags, AllFlags), (now.Flags, (uint)result.NewFlags));

        // kvmclock went on: what it would be without the repair, against what it is.
        var expected = readAt.Flags == 0
            ? readAt.Clock + (machine.SimulatedHost.RawNanoseconds - raw)
            : readAt.Clock + SimulatedVM.PvclockNanoseconds(now.HostTsc - readAt.HostTsc, machine.SimulatedHost.Spec.TscKHz);
        var jump = TscArithmetic.Distance(expected, now.Clock);
        Assert.InRange(jump, Math.Min(0, result.ClockJumpNanoseconds) - 3, Math.Max(0, result.ClockJumpNanoseconds) + 3);
        Assert.InRange(Math.Abs(result.ClockJumpNanoseconds), 0, 5 * machine.SimulatedHost.Spec.IoctlPicoseconds / 1000);
    });

    [Fact]
    public void The_result_tells_what_was_done()
    {
        var machine = Ordinary(1000, 5000, 2000);
        machine.RunGuest();
        var result = MasterClock.Repair(machine, 1, force: false, CancellationToken.None);
        Assert.Equal((true, 5000L, 4000L, 4000.0), (result.Changed, result.OffsetTicks, result.AdvancedTicks, result.AdvancedNanoseconds));
        Assert.Equal((KvmClockFlags.None, (KvmClockFlags)AllFlags), (result.OldFlags, result.NewFlags));
        Assert.Equal(
            [(0, 1000L, 5000L, 4000L), (1, 5000L, 5000L, 0L), (2, 2000L, 5000L, 3000L)],
            result.Vcpus.Select(vcpu => (vcpu.VcpuId, vcpu.OldOffsetTicks, vcpu.NewOffsetTicks, vcpu.AdvancedTicks)));
        Assert.True(result.NewClockNanoseconds >= result.OldClockNanoseconds);
        Assert.InRange(result.ClockJumpNanoseconds, -5_000, -1);
        Assert.Equal(12.5, result.StoppedMicroseconds);
    }

    [Fact]
    public void The_largest_is_the_one_ahead_also_where_the_counter_wraps()
    {
        var machine = Ordinary(long.MaxValue, long.MinValue + 4, long.MaxValue - 9);
        Assert.Equal(long.MinValue + 4, MasterClock.Repair(machine, 1, force: false, CancellationToken.None).OffsetTicks);
        machine = Ordinary(-3, 2, -1);
        Assert.Equal(2, MasterClock.Repair(machine, 1, force: false, CancellationToken.None).OffsetTicks);
    }

    [Theory]
    [InlineData(DestinationKind.ClockSet)]
    [InlineData(DestinationKind.Ran)]
    public void A_healthy_VM_is_left_alone_unless_by_force(object kind)
    {
        var machine = Ordinary(7, 7, 7);
        Simulation.Migration.Prepare(machine, (DestinationKind)kind);
        var (writes, clock) = (machine.Writes.Count(), machine.VM.ClockBase);
        var result = MasterClock.Repair(machine, 1, force: false, CancellationToken.None);
        Assert.Equal((false, 7L, 0L, 0L), (result.Changed, result.OffsetTicks, result.AdvancedTicks, result.ClockJumpNanoseconds));
        Assert.Equal((AllFlags, result.OldClockNanoseconds), ((uint)result.NewFlags, result.NewClockNanoseconds));
        Assert.Equal((writes, clock), (machine.Writes.Count(), machine.VM.ClockBase));

        Assert.True(MasterClock.Repair(machine, 1, force: true, CancellationToken.None).Changed);
        Assert.True(machine.Writes.Count() > writes);
    }

    [Fact]
    public void An_odd_offset_that_was_written_back_is_repaired_without_an_advance()
    {
        var machine = Ordinary(7, 7, 7);
        Simulation.Migration.Prepare(machine, DestinationKind.OddOneWrittenBack);
        var result = MasterClock.Repair(machine, 0, force: false, CancellationToken.None);
        Assert.Equal((true, 0L, (KvmClockFlags)AllFlags), (result.Changed, result.AdvancedTicks, result.NewFlags));
    }

    [Fact]
    public void A_preview_foretells_and_changes_nothing()
    {
        var machine = Ordinary(1000, 5000);
        machine.RunGuest();
        var (picture, clock, writes) = (machine.Picture(), machine.VM.ClockBase, machine.Writes.Count());
        var plan = MasterClock.Preview(machine, 1, force: false, CancellationToken.None);
        Assert.Equal(picture, machine.Picture());
        Assert.Equal((clock, writes), (machine.VM.ClockBase, machine.Writes.Count()));
        var result = MasterClock.Repair(machine, 1, force: false, CancellationToken.None);
        Assert.Equal((true, result.OffsetTicks), (plan.IsNeeded, plan.OffsetTicks));
        Assert.Equal(result.Vcpus.Select(vcpu => vcpu.AdvancedTicks), plan.Vcpus.Select(vcpu => vcpu.AdvancedTicks));
    }

    [Fact]
    public void A_guest_is_not_advanced_by_more_than_is_allowed_unless_by_force()
    {
        var machine = Ordinary(0, 1_000_000_001);
        var exception = RefusedOf(machine, KvmErrorId.AdvanceTooLarge, 1, force: false);
        Assert.Contains("1000000001 ticks, 1 s; 1 s are allowed", exception.Message, StringComparison.Ordinal);
        Assert.Equal(0, exception.VcpuId);
        Assert.Equal(1_000_000_001, MasterClock.Repair(machine, 1.1, force: false, CancellationToken.None).AdvancedTicks);
        Assert.Equal(1L << 62, MasterClock.Repair(Ordinary(0, 1L << 62), 1, force: true, CancellationToken.None).AdvancedTicks);
    }

    [Theory]
    [InlineData(0, long.MinValue, 0)]
    [InlineData(0, long.MaxValue, -5)]
    public void Where_no_vCPU_is_ahead_of_all_others_it_is_refused_even_by_force(long first, long second, long third) =>
        RefusedOf(Ordinary(first, second, third), KvmErrorId.AdvanceTooLarge, double.MaxValue, force: true);

    [Fact]
    public void Unequal_frequencies_are_refused_even_by_force()
    {
        var machine = new SimulatedMachine(new SimulatedHost(HostSpec.Ordinary with { Scaling = TscScaling.Intel }, new SimulatedTime()), 0, 1);
        GuestTsc.SetFrequencies(machine, new Dictionary<int, uint> { [1] = 900_000 }, force: false, CancellationToken.None);
        var exception = RefusedOf(machine, KvmErrorId.UnequalFrequencies, 1, force: true);
        Assert.Contains("900000, 1000000 kHz", exception.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_guest_that_KVM_chases_is_refused_unless_by_force()
    {
        var machine = Ordinary(0, 5);
        GuestTsc.SetFrequencies(machine, machine.VcpuIds.ToDictionary(id => id, _ => 1_100_000u), force: true, CancellationToken.None);
        RefusedOf(machine, KvmErrorId.FrequencyUnsupported, 1, force: false);
        Assert.True(MasterClock.Repair(machine, 1, force: true, CancellationToken.None).Changed);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_host_whose_clocksource_is_not_tsc_is_refused_before_the_VM_is_stopped(bool force)
    {
        var machine = Ordinary(0, 5);
        machine.VM.ClocksourceIsTsc = false;
        var stops = machine.Stops;
        Assert.Contains("hpet", RefusedOf(machine, KvmErrorId.ClockWithoutTriple, 1, force).Message, StringComparison.Ordinal);
        Assert.Equal(stops, machine.Stops);
    }

    [Fact]
    public void Where_KVM_leaves_the_master_clock_off_all_the_same_everything_is_put_back()
    {
        var machine = Ordinary(0, 5);
        machine.VM.WasSuspended = true;
        machine.RunGuest();
        var picture = machine.Picture();
        var exception = Assert.Throws<KvmException>(() => MasterClock.Repair(machine, 1, force: false, CancellationToken.None));
        Refusal.AssertExplains(exception, KvmErrorId.ClockWithoutTriple);
        Assert.Contains("suspended", exception.RecommendedAction, StringComparison.Ordinal);
        Assert.Equal(picture, machine.Picture());
    }

    private static KvmException RefusedOf(SimulatedMachine machine, KvmErrorId errorId, double maximumAdvanceSeconds, bool force)
    {
        Refusal.Of(machine, errorId, () => MasterClock.Preview(machine, maximumAdvanceSeconds, force, CancellationToken.None));
        return Refusal.Of(machine, errorId, () => MasterClock.Repair(machine, maximumAdvanceSeconds, force, CancellationToken.None));
    }

    /// <summary>A VM of a host of 1 GHz with these offsets, which nothing has noticed yet.</summary>
    private static SimulatedMachine Ordinary(params long[] offsets)
    {
        var machine = new SimulatedMachine(new SimulatedHost(HostSpec.Ordinary, new SimulatedTime()), [.. Enumerable.Range(0, offsets.Length)]);
        machine.RunGuest();
        foreach (var id in machine.VcpuIds)
            Raw.SetOffset(machine, id, unchecked((ulong)offsets[id]));
        return machine;
    }

    private static SimulatedMachine MachineOf(MigrationScenario scenario, ulong[] offsets)
    {
        var host = scenario.Source;
        var machine = new SimulatedMachine(new SimulatedHost(host, new SimulatedTime()), scenario.VcpuIds);
        GuestTsc.SetFrequencies(machine, machine.VcpuIds.ToDictionary(id => id, _ => scenario.GuestKHz), force: true, CancellationToken.None);
        GuestClock.Set(machine, scenario.Clock, null, force: true, CancellationToken.None);
        machine.RunGuest();
        machine.SimulatedHost.Time.Advance(scenario.RanPicoseconds);
        foreach (var (id, offset) in machine.VcpuIds.Zip(offsets))
            Raw.SetOffset(machine, id, offset);
        return machine;
    }
}
