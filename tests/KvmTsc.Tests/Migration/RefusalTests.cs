using KvmTsc.Clocks;
using KvmTsc.Migration;
using KvmTsc.Migration.Preflight;
using KvmTsc.Tests.Semantics;
using KvmTsc.Tests.Simulation;

namespace KvmTsc.Tests.Migration;

/// <summary>What is refused when clocks are saved, restored and migrated. <see cref="Refusal.Of"/> sees that nothing was changed.</summary>
public sealed class RefusalTests
{
    private static readonly HostSpec s_source = HostSpec.Ordinary with { Name = "source", BootId = "a", TscStart = 1UL << 45 };
    private static readonly HostSpec s_destination = HostSpec.Ordinary with { Name = "destination", BootId = "b" };

    private readonly SimulatedTime _time = new();

    [Fact]
    public void A_VM_that_never_ran_has_no_state()
    {
        var machine = Machine(s_source, 0, 1);
        var exception = Refusal.Of(machine, KvmErrorId.ClockWithoutTriple, () => Save(machine));
        Assert.Contains("never ran", exception.Message, StringComparison.Ordinal);
        Refusal.Of(machine, KvmErrorId.ClockWithoutTriple, () => Save(machine, force: true));
    }

    [Fact]
    public void A_VM_whose_hosts_clocksource_is_not_tsc_has_no_state()
    {
        var machine = Machine(s_source, 0);
        machine.VM.ClocksourceIsTsc = false;
        machine.RunGuest();
        Refusal.Of(machine, KvmErrorId.ClockWithoutTriple, () => Save(machine));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_VM_whose_offsets_differ_has_no_state_as_the_master_clock_is_off(bool force)
    {
        var machine = Ran(s_source, 0, 1, 2);
        Raw.SetOffset(machine, 1, 5);
        machine.RunGuest();
        var exception = Refusal.Of(machine, KvmErrorId.UnequalOffsets, () => Save(machine, force));
        Assert.Contains("master clock is off", exception.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_VM_whose_offsets_differ_while_the_master_clock_is_on_has_a_state_only_by_force()
    {
        var machine = Ran(s_source, 0, 1, 2);
        Raw.SetOffset(machine, 1, 5);
        var exception = Refusal.Of(machine, KvmErrorId.UnequalOffsets, () => Save(machine));
        Assert.Contains("2 different", exception.Message, StringComparison.Ordinal);

        var state = Save(machine, force: true);
        Assert.Equal(machine.Picture().Select(vcpu => vcpu.Offset), state.Vcpus.Select(vcpu => unchecked((ulong)vcpu.OffsetTicks)));
    }

    [Theory]
    [InlineData(22)]
    [InlineData(6)]
    [InlineData(25)]
    public void A_kernel_without_the_attribute_is_named(int errno)
    {
        var machine = Ran(s_source with { OffsetErrno = errno }, 0, 1);
        var exception = Refusal.Of(machine, KvmErrorId.TscOffsetUnsupported, () => Save(machine));
        Assert.Contains("5.16", exception.RecommendedAction, StringComparison.Ordinal);
        Assert.Equal((0, errno), (exception.VcpuId, exception.ErrorNumber));
        Refusal.Of(machine, KvmErrorId.TscOffsetUnsupported, () => GuestTsc.ReadOffsets(machine, null, CancellationToken.None));
        Refusal.Of(machine, KvmErrorId.TscOffsetUnsupported, () => GuestTsc.SetOffsets(machine, new Dictionary<int, long> { [0] = 1 }, force: true, CancellationToken.None));
        Refusal.Of(machine, KvmErrorId.TscOffsetUnsupported, () => Restore(machine, Save(Ran(s_source, 0, 1))));
    }

    [Theory]
    [InlineData(5, "another process")]
    [InlineData(9, "gone")]
    [InlineData(14, "dmesg")]
    public void A_VM_that_takes_no_ioctls_is_told_apart(int errno, string advice)
    {
        var machine = Ran(s_source, 0);
        machine.Fault = _ => errno;
        var exception = Refusal.Of(machine, KvmErrorId.IoctlFailed, () => Save(machine));
        Assert.Equal((null, errno), (exception.VcpuId, exception.ErrorNumber));
        Assert.Contains(advice, exception.RecommendedAction, StringComparison.Ordinal);
        Assert.Contains("Nothing was changed", exception.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_VM_of_another_process_cannot_be_restored()
    {
        var machine = Ran(s_destination, 0);
        machine.VM.IsForeign = true;
        Assert.Equal(5, Refusal.Of(machine, KvmErrorId.IoctlFailed, () => Restore(machine, Save(Ran(s_source, 0)))).ErrorNumber);
    }

    [Fact]
    public void A_state_from_the_future_is_refused_even_by_force()
    {
        var state = Save(Ran(s_source, 0));
        var machine = Machine(s_destination with { RealtimeErrorNanoseconds = -60_000_000_000 }, 0);
        var exception = Refusal.Of(machine, KvmErrorId.RealtimeInFuture, () => Restore(machine, state));
        Assert.Contains("59.99", exception.Message, StringComparison.Ordinal);
        Refusal.Of(machine, KvmErrorId.RealtimeInFuture, () => Restore(machine, state, force: true));
    }

    [Fact]
    public void A_state_of_this_very_instant_is_taken()
    {
        var state = Save(Ran(s_source, 0));
        var machine = Machine(s_destination, 0);
        var now = state.With(realtime: machine.HostNow.Realtime);
        Restore(machine, now);
    }

    [Fact]
    public void A_guest_that_has_run_is_not_given_an_earlier_clock_unless_by_force()
    {
        var state = Save(Ran(s_source, 0));
        var machine = Ran(s_destination, 0);
        GuestClock.Set(machine, 1UL << 50, null, force: false, CancellationToken.None);
        Refusal.Of(machine, KvmErrorId.ClockBackwards, () => Restore(machine, state));
        Refusal.Of(machine, KvmErrorId.ClockBackwards, () => new TscRestore(machine, state, new TscRestoreOptions()).Preview(CancellationToken.None));
        Restore(machine, state, force: true);
        Assert.True(machine.VM.ReadClock().Clock < 1UL << 50);
    }

    [Fact]
    public void A_guest_that_has_not_run_may_be_given_an_earlier_clock()
    {
        var state = Save(Ran(s_source, 0));
        var machine = Machine(s_destination, 0);
        GuestClock.Set(machine, 1UL << 50, null, force: false, CancellationToken.None);
        Restore(machine, state);
        Assert.True(machine.VM.ReadClock().Clock < 1UL << 50);
    }

    [Fact]
    public void A_guest_that_has_run_is_not_given_an_earlier_TSC_unless_by_force()
    {
        var source = Ran(s_source, 0, 1);
        GuestClock.Set(source, 1UL << 50, null, force: false, CancellationToken.None);
        var state = Save(source);
        var machine = Ran(s_destination, 0, 1);
        foreach (var id in machine.VcpuIds)
            Raw.SetOffset(machine, id, 1UL << 58);
        machine.RunGuest();
        var exception = Refusal.Of(machine, KvmErrorId.GuestTscBackwards, () => Restore(machine, state));
        Assert.Equal(0, exception.VcpuId);
        Refusal.Of(machine, KvmErrorId.GuestTscBackwards, () => new TscRestore(machine, state, new TscRestoreOptions()).Preview(CancellationToken.None));
        Restore(machine, state, force: true);
        Assert.True(machine.VM.Vcpus[0].GuestTscNow < 1UL << 58);
    }

    [Theory]
    [InlineData(new[] { 0, 1 }, new[] { 0 }, "0-1", "0")]
    [InlineData(new[] { 0 }, new[] { 0, 1, 2, 7 }, "0", "0-2, 7")]
    [InlineData(new[] { 0, 1 }, new[] { 1, 2 }, "0-1", "1-2")]
    public void Another_set_of_vCPUs_is_refused(int[] source, int[] destination, string sourceRange, string destinationRange)
    {
        var state = Save(Ran(s_source, source));
        var machine = Machine(s_destination, destination);
        var exception = Refusal.Of(machine, KvmErrorId.VcpuMismatch, () => Restore(machine, state));
        Assert.Contains($"The state has vCPUs {sourceRange}, {machine.Identity.Name} has {destinationRange}.", exception.Message, StringComparison.Ordinal);
    }

    /// <summary>QEMU keeps vCPUs that were unplugged, for as long as the process lives: another one does not have them, and KVM's master clock needs all.</summary>
    [Theory]
    [InlineData(new[] { 0, 1 }, new[] { 0 })]
    [InlineData(new[] { 0 }, new[] { 0, 1, 2, 7 })]
    [InlineData(new[] { 0, 1 }, new[] { 1, 2 })]
    public void By_force_vCPUs_that_were_plugged_in_or_out_get_what_all_have(int[] source, int[] destination)
    {
        var state = Save(Ran(s_source, source));
        var machine = Ran(s_destination, destination);
        Assert.Equal(destination, Restore(machine, state, force: true).Vcpus.Select(vcpu => vcpu.VcpuId));
        machine.RunGuest();
        Assert.Equal(0xEu, machine.VM.ReadClock().Flags);
        Assert.Single(machine.Picture().Select(vcpu => (vcpu.Offset, vcpu.KHz)).Distinct());
    }

    [Fact]
    public void By_force_vCPUs_that_no_state_knows_are_refused_where_the_others_differ()
    {
        var state = Save(Ran(s_source, 0, 1));
        var odd = state.Vcpus[1];
        state = state.With(vcpus: [state.Vcpus[0], new KvmVcpuTscState(1, odd.OffsetTicks + 5, odd.TscKHz, odd.ScalingRatio, odd.ScalingFractionBits)]);
        var machine = Machine(s_destination, 0, 1, 2);
        Refusal.Of(machine, KvmErrorId.VcpuMismatch, () => Restore(machine, state, force: true));
    }

    /// <summary>QEMU asks for a frequency that KVM refuses, is content with a warning, and KVM keeps the number.</summary>
    [Theory]
    [InlineData(true, false)]
    [InlineData(false, false)]
    [InlineData(false, true)]
    public void A_number_that_KVM_refused_does_not_keep_a_guest_from_going_on(bool hasNumber, bool force)
    {
        const uint Asked = 700_000;
        var host = new SimulatedHost(s_source, _time);
        var source = new SimulatedMachine(host, 0, 1);
        Ask(source);
        source.RunGuest();
        var (state, machine) = (Save(source), new SimulatedMachine(host, 0, 1));
        if (hasNumber)
            Ask(machine);
        _time.Advance(TimeSpan.FromSeconds(3));
        if (!hasNumber && !force)
        {
            Refusal.Of(machine, KvmErrorId.FrequencyUnsupported, () => Restore(machine, state));
            var preflight = TscPreflight.Run(state, machine, new TscPreflightOptions(), CancellationToken.None);
            Assert.Equal(KvmErrorId.FrequencyUnsupported, Assert.Throws<KvmException>(preflight.Require).ErrorId);
            return;
        }

        var result = Restore(machine, state, force);
        Assert.Equal((0, ResidualMeasure.HostTsc), (result.ResidualTicks, result.MeasuredBy));
        Assert.InRange(Math.Abs(result.ClockResidualNanoseconds), 0, result.ErrorBoundNanoseconds);
        Assert.All(result.Vcpus, vcpu => Assert.Equal((vcpu.OldTscKHz, state.Vcpus[0].OffsetTicks), (vcpu.NewTscKHz, vcpu.NewOffsetTicks)));
        Refusal.Of(machine, KvmErrorId.FrequencyUnsupported, () => _ = new TscRestore(machine, state, new TscRestoreOptions(TscMethod.Documented, Force: true)));
        Refusal.Of(machine, KvmErrorId.FrequencyUnsupported, () => Restore(Machine(s_destination, 0, 1), state, force: true));

        static void Ask(SimulatedMachine machine)
        {
            foreach (var vcpu in machine.VM.Vcpus.Values)
                vcpu.VirtualKHz = Asked;
        }
    }

    [Fact]
    public void A_VM_that_has_no_vCPUs_yet_has_no_state()
    {
        Refusal.AssertExplains(Assert.Throws<KvmException>(() => Save(Machine(s_source))), KvmErrorId.ClockWithoutTriple);
        var preflight = TscPreflight.Run(Machine(s_source), Machine(s_destination), new TscPreflightOptions(), CancellationToken.None);
        Assert.Equal(KvmErrorId.ClockWithoutTriple, Assert.Throws<KvmException>(preflight.Require).ErrorId);
    }

    /// <summary>A guest stands still for it.</summary>
    [Fact]
    public void What_the_guest_takes_from_KVM_is_asked_once_whatever_the_number_of_vCPUs()
    {
        var state = Save(Ran(s_source, [.. Enumerable.Range(0, 64)]));
        var machine = Machine(s_destination, [.. Enumerable.Range(0, 64)]);
        Restore(machine, state);
        Assert.Equal(3, machine.Log.Count(ioctl => SimulatedVcpu.IsGuestClock(ioctl.Msr)));
    }

    [Fact]
    public void The_order_of_the_vCPUs_in_a_state_does_not_matter()
    {
        var state = Save(Ran(s_source, 0, 1, 2));
        Restore(Machine(s_destination, 0, 1, 2), state.With(vcpus: [.. state.Vcpus.Reverse()]));
    }

    [Fact]
    public void A_state_whose_offsets_differ_is_restored_by_force_only_each_as_it_is()
    {
        var state = Save(Ran(s_source, 0, 1));
        var odd = state.Vcpus[1];
        state = state.With(vcpus: [state.Vcpus[0], new KvmVcpuTscState(1, odd.OffsetTicks + 5, odd.TscKHz, odd.ScalingRatio, odd.ScalingFractionBits)]);
        var machine = Machine(s_destination, 0, 1);
        Refusal.Of(machine, KvmErrorId.UnequalOffsets, () => Restore(machine, state));

        var result = Restore(machine, state, force: true);
        Assert.Equal(5, result.Vcpus[1].NewOffsetTicks - result.Vcpus[0].NewOffsetTicks);
    }

    [Theory]
    [InlineData(900_000, "slower")]
    [InlineData(1_100_000, "faster")]
    public void A_frequency_that_the_destination_does_not_have_is_refused(uint kHz, string why)
    {
        var source = Ran(s_source with { Scaling = TscScaling.Intel }, 0);
        GuestTsc.SetFrequencies(source, new Dictionary<int, uint> { [0] = kHz }, force: false, CancellationToken.None);
        var state = Save(source);
        var machine = Machine(s_destination, 0);
        var exception = Refusal.Of(machine, KvmErrorId.FrequencyUnsupported, () => Restore(machine, state));
        Assert.Contains(why, exception.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void By_force_a_faster_guest_is_chased()
    {
        var source = Ran(s_source with { Scaling = TscScaling.Intel }, 0);
        GuestTsc.SetFrequencies(source, new Dictionary<int, uint> { [0] = 1_100_000 }, force: false, CancellationToken.None);
        var machine = Machine(s_destination, 0);
        Restore(machine, Save(source), force: true);
        Assert.True(machine.VM.Vcpus[0].CatchUp);
    }

    [Fact]
    public void A_frequency_beyond_what_the_hardware_scales_is_refused()
    {
        var state = Save(Ran(s_source, 0));
        var vcpu = state.Vcpus[0];
        state = state.With(vcpus: [new KvmVcpuTscState(0, vcpu.OffsetTicks, 256_000_001, 0, 0)]);
        var machine = Machine(s_destination with { Scaling = TscScaling.Amd }, 0);
        Refusal.Of(machine, KvmErrorId.FrequencyUnsupported, () => Restore(machine, state, force: true));
    }

    [Fact]
    public void A_state_that_no_kernel_gave_is_refused()
    {
        var state = Save(Ran(s_source, 0, 1));
        var machine = Machine(s_destination, 0, 1);
        var vcpu = state.Vcpus[0];
        KvmTscState[] invalid =
        [
            state.With(realtime: 0),
            state.With(hostTsc: 0),
            state.With(vcpus: []),
            state.With(vcpus: [vcpu, vcpu]),
            state.With(vcpus: [vcpu, new KvmVcpuTscState(1, vcpu.OffsetTicks, 0, 0, 0)]),
            state.With(vcpus: [vcpu, new KvmVcpuTscState(1, vcpu.OffsetTicks, vcpu.TscKHz, 1, 64)]),
            state.With(vcpus: [vcpu, new KvmVcpuTscState(1, vcpu.OffsetTicks, vcpu.TscKHz, 1, -1)]),
            state.With(vcpus: [vcpu, null!]),
            state.With(vcpus: [new KvmVcpuTscState(0, vcpu.OffsetTicks, vcpu.TscKHz, 1UL << 47, 48), state.Vcpus[1]]),
            new(state.VMName, 1, state.VMId, null, state.ClockNanoseconds, state.RealtimeNanoseconds, state.HostTsc, [.. state.Vcpus], null!, 0, null),
            new(state.VMName, 1, state.VMId, null, state.ClockNanoseconds, state.RealtimeNanoseconds, state.HostTsc, null!, state.Host, 0, null),
        ];
        foreach (var one in invalid)
            Refusal.Of(machine, KvmErrorId.InvalidValue, () => Restore(machine, one, force: true));
    }

    [Fact]
    public void A_VM_is_not_migrated_to_itself()
    {
        var machine = Ran(s_source, 0);
        Refusal.Of(machine, KvmErrorId.SameVM, () => TscMigration.Run(machine, machine, new TscRestoreOptions(Force: true), CancellationToken.None));
        Assert.Equal(0, machine.Stops);
    }

    [Fact]
    public void A_migration_whose_destination_is_refused_changes_neither_side()
    {
        var (source, destination) = (Ran(s_source, 0, 1), Ran(s_destination, 0));
        Refusal.Of(source, KvmErrorId.VcpuMismatch, () =>
            Refusal.Of(destination, KvmErrorId.VcpuMismatch, () => TscMigration.Run(source, destination, new TscRestoreOptions(), CancellationToken.None)).Rethrow());
    }

    [Fact]
    public void A_diverged_destination_is_brought_in_step()
    {
        var (source, machine) = (Ran(s_source, 0, 1, 2), Ran(s_destination, 0, 1, 2));
        Raw.SetOffset(machine, 2, 5);
        machine.RunGuest();
        Assert.Equal(0u, machine.VM.ReadClock().Flags);
        TscMigration.Run(source, machine, new TscRestoreOptions(TscMethod.Documented, Force: true), CancellationToken.None);
        machine.RunGuest();
        Assert.Equal(0xEu, machine.VM.ReadClock().Flags);
        Assert.Single(machine.Picture().Select(vcpu => vcpu.Offset).Distinct());
    }

    private static KvmTscState Save(SimulatedMachine machine, bool force = false) => KvmTscState.Save(machine, force, CancellationToken.None);

    private static KvmTscMigrationResult Restore(SimulatedMachine machine, KvmTscState state, bool force = false) =>
        new TscRestore(machine, state, new TscRestoreOptions(Force: force)).Run(CancellationToken.None);

    private SimulatedMachine Machine(HostSpec host, params int[] vcpuIds) => new(new SimulatedHost(host, _time), vcpuIds);

    private SimulatedMachine Ran(HostSpec host, params int[] vcpuIds) => Machine(host, vcpuIds).RunGuest();
}
