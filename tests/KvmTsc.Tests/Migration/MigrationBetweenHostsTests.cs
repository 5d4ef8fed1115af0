using System.Numerics;
using KvmTsc.Migration;
using KvmTsc.Tests.Simulation;

namespace KvmTsc.Tests.Migration;

/// <summary>Migrations between any two hosts.</summary>
public sealed class MigrationBetweenHostsTests
{
    /// <summary>
    /// The invariant of the algorithm: the guest TSC at kvmclock zero, tsc - clock * kHz / 10^6, is the same on both sides.
    ///
    /// How exact: the kernel gives clock and host TSC of one instant as integers on either side, and step 6 moves the guest's TSC by
    /// trunc((clock' - clock) * kHz / 10^6). So between the two readings the guest TSC moves by that exactly, and the only rounding left
    /// is that of this one division: less than a tick, and towards zero, so downwards where kvmclock moved on.
    /// With e = (tsc' - tsc) * 10^6 - (clock' - clock) * kHz this says -10^6 &lt; e &lt;= 0. No bound can be tighter, as an offset is whole ticks.
    /// </summary>
    [Fact]
    public void The_guest_TSC_at_kvmclock_zero_is_the_same_on_both_sides_to_less_than_a_tick() => Properties.Hold(MigrationScenario.Any, scenario =>
    {
        var migration = scenario.Start();
        migration.Restore(TscMethod.Best);

        var step5 = ClockReadBeforeTheOffsetsWereWritten(migration.Destination);
        foreach (var source in migration.State.Vcpus)
        {
            var before = migration.Source.VM.Vcpus[source.VcpuId].GuestTsc(migration.State.HostTsc);
            var after = migration.Destination.VM.Vcpus[source.VcpuId].GuestTsc(step5.HostTsc);
            var moved = (BigInteger)unchecked((long)(after - before)) * 1_000_000;
            var due = ((BigInteger)step5.Clock - migration.State.ClockNanoseconds) * scenario.GuestKHz;
            Assert.InRange(moved - due, -999_999, 0);
        }
    });

    /// <summary>
    /// What is promised to the user: the guest TSC that the source's guest would truly have at that instant, had it gone on, by a clock that
    /// no host has, lies within the reported bound. Frequencies are here as they are in reality, known to the kernels only to some ppm.
    /// </summary>
    [Fact]
    public void The_true_error_lies_within_the_reported_bound() => Properties.Hold(MigrationScenario.Any, scenario =>
    {
        var migration = scenario.Start();
        var result = migration.Restore(TscMethod.Best);

        var readBack = migration.Destination.Log.Last(ioctl => ioctl.Clock is not null).Clock!;
        var seconds = (readBack.Picoseconds - migration.CapturedAt) / 1e12;
        foreach (var vcpu in result.Vcpus)
        {
            var source = migration.Source.VM.Vcpus[vcpu.VcpuId];
            var moved = unchecked((long)(vcpu.GuestTsc - source.GuestTsc(migration.State.HostTsc)));
            var error = (moved - (source.ActualHz * seconds)) / source.ActualHz * 1e9;

            // Doubles of ticks over 30 days are good to about ten ticks.
            Assert.InRange(error, -result.ErrorBoundNanoseconds - 10, result.ErrorBoundNanoseconds + 10);
        }
    });

    [Fact]
    public void The_measured_residuals_lie_within_the_reported_bound() => Properties.Hold(MigrationScenario.Any, scenario =>
    {
        var result = scenario.Start().Restore(TscMethod.Documented);
        Assert.Equal(ResidualMeasure.Realtime, result.MeasuredBy);
        Assert.InRange(result.ResidualNanoseconds, -result.ErrorBoundNanoseconds, result.ErrorBoundNanoseconds);
        Assert.InRange(result.ClockResidualNanoseconds, -result.ErrorBoundNanoseconds, result.ErrorBoundNanoseconds);
    });

    [Fact]
    public void VCPUs_that_were_in_step_stay_in_step_and_the_master_clock_is_on() => Properties.Hold(MigrationScenario.Any, scenario =>
    {
        var migration = scenario.Start();
        migration.Restore(TscMethod.Best);
        Assert.Single(migration.Destination.VM.Vcpus.Values.Select(vcpu => vcpu.Offset).Distinct());
        Assert.All(migration.Destination.VM.Vcpus.Values, vcpu => Assert.Equal(scenario.GuestKHz, vcpu.VirtualKHz));
        migration.Destination.RunGuest();
        Assert.Equal(0xEu, migration.Destination.VM.ReadClock().Flags);
    });

    [Fact]
    public void The_result_tells_what_the_kernel_has() => Properties.Hold(MigrationScenario.Any, scenario =>
    {
        var migration = scenario.Start();
        var before = migration.Destination.Picture();
        var result = migration.Restore(TscMethod.Best);
        var after = migration.Destination.Picture();
        var readings = migration.Destination.Log.Where(ioctl => ioctl.Clock is not null).Select(ioctl => ioctl.Clock!).ToArray();

        Assert.Equal(before.Select(vcpu => (vcpu.VcpuId, vcpu.Offset, vcpu.KHz)), result.Vcpus.Select(vcpu => (vcpu.VcpuId, unchecked((ulong)vcpu.OldOffsetTicks), vcpu.OldTscKHz)));
        Assert.Equal(after.Select(vcpu => (vcpu.VcpuId, vcpu.Offset, vcpu.KHz)), result.Vcpus.Select(vcpu => (vcpu.VcpuId, unchecked((ulong)vcpu.NewOffsetTicks), vcpu.NewTscKHz)));
        Assert.All(result.Vcpus, vcpu => Assert.Equal(migration.Destination.VM.Vcpus[vcpu.VcpuId].GuestTsc(readings[^1].HostTsc), vcpu.GuestTsc));
        Assert.Equal(readings[^1].Clock, result.NewClockNanoseconds);
        Assert.Equal(migration.State.ClockNanoseconds, result.SourceClockNanoseconds);
        Assert.Equal(unchecked((long)(readings[^1].Realtime - migration.State.RealtimeNanoseconds)), result.DowntimeNanoseconds);
        Assert.Equal("source", result.SourceMachineName);
        Assert.Equal(12.5, result.StoppedMicroseconds);
        Assert.Equal(12.5, result.SourceStoppedMicroseconds);
    });

    [Fact]
    public void A_restore_stops_the_VM_once_and_the_source_is_never_written() => Properties.Hold(MigrationScenario.Any, scenario =>
    {
        var migration = scenario.Start();
        var (stops, sourceWrites) = (migration.Destination.Stops, migration.Source.Writes.Count());
        migration.Restore(TscMethod.Best);
        Assert.Equal(stops + 1, migration.Destination.Stops);
        Assert.Equal(0, migration.Destination.OpenStops);
        Assert.Equal(sourceWrites, migration.Source.Writes.Count());
    }, times: 50);

    [Fact]
    public void A_preview_changes_nothing_and_foretells_the_offsets() => Properties.Hold(MigrationScenario.Any, scenario =>
    {
        var migration = scenario.Start();
        var (before, clock, writes) = (migration.Destination.Picture(), migration.Destination.VM.ClockBase, migration.Destination.Writes.Count());
        var preview = new TscRestore(migration.Destination, migration.State, new TscRestoreOptions(Force: migration.Destination.GuestHasRun)).Preview(CancellationToken.None);
        Assert.Equal(before, migration.Destination.Picture());
        Assert.Equal(clock, migration.Destination.VM.ClockBase);
        Assert.Equal(writes, migration.Destination.Writes.Count());

        var result = migration.Restore(TscMethod.Best);
        Assert.Equal(result.Vcpus.Select(vcpu => (vcpu.VcpuId, vcpu.OldOffsetTicks, vcpu.OldTscKHz, vcpu.NewTscKHz)), preview.Vcpus.Select(vcpu => (vcpu.VcpuId, vcpu.OldOffset, vcpu.OldKHz, vcpu.NewKHz)));
        foreach (var (foretold, done) in preview.Vcpus.Zip(result.Vcpus).Where(pair => pair.First.NewOffset is not null))
        {
            // Both offsets lead to the guest TSC that is due; what they differ by is how far each can be off.
            var difference = Math.Abs((double)unchecked(done.NewOffsetTicks - foretold.NewOffset!.Value)) * 1e6 / scenario.GuestKHz;
            Assert.InRange(difference, 0, (result.ErrorBoundNanoseconds * 2) + 1000);
        }
    });

    private static SimulatedClockReading ClockReadBeforeTheOffsetsWereWritten(SimulatedMachine machine)
    {
        var lastWrite = machine.Log.Last(ioctl => ioctl.Request == KvmIoctl.SetDeviceAttr).Number;
        return machine.Log.Last(ioctl => ioctl.Clock is not null && ioctl.Number < lastWrite).Clock!;
    }
}
