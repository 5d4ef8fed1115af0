using KvmTsc.Clocks;
using KvmTsc.Interop;
using KvmTsc.Migration;
using KvmTsc.Tests.Simulation;

namespace KvmTsc.Tests.Migration;

public sealed class TscStepSixTests
{
    /// <summary>The whole algorithm by hand, on any two hosts, gives what the engine's own restore gives at the same instant.</summary>
    [Fact]
    public void By_hand_the_algorithm_gives_the_guest_TSC_that_is_due() => Properties.Hold(MigrationScenario.Any, scenario =>
    {
        var migration = (scenario with { Kind = DestinationKind.ClockSet }).Start();
        var (source, destination) = (migration.Source, migration.Destination);
        var clock = GuestClock.Read(source, CancellationToken.None);
        var offsets = GuestTsc.ReadOffsets(source, null, CancellationToken.None);
        var frequencies = GuestTsc.ReadFrequencies(source, null, CancellationToken.None);
        migration.Time.Advance(50_000_000_000);

        GuestTsc.SetFrequencies(destination, frequencies.ToDictionary(one => one.VcpuId, one => one.TscKHz), force: false, CancellationToken.None);
        var realtime = Math.Min(clock.RealtimeNanoseconds!.Value, destination.HostNow.Realtime);
        var now = GuestClock.Set(destination, clock.ClockNanoseconds, realtime, force: false, CancellationToken.None);
        var scaled = GuestTsc.ReadFrequencies(destination, null, CancellationToken.None);
        var resolved = offsets.Zip(frequencies, scaled).Select(vcpu =>
            TscStepSix.Resolve(vcpu.First.VcpuId, vcpu.First.OffsetTicks, clock, now, vcpu.Second, vcpu.Third)).ToArray();
        GuestTsc.SetOffsets(destination, resolved.ToDictionary(one => one.VcpuId, one => one.OffsetTicks), force: false, CancellationToken.None);

        foreach (var id in source.VcpuIds)
        {
            var moved = (Int128)unchecked((long)(destination.VM.Vcpus[id].GuestTsc(now.HostTsc!.Value) - source.VM.Vcpus[id].GuestTsc(clock.HostTsc!.Value)));
            var due = (Int128)unchecked((long)(now.ClockNanoseconds - clock.ClockNanoseconds)) * scenario.GuestKHz;
            Assert.InRange((moved * 1_000_000) - due, -999_999, 0);
        }
    });

    [Fact]
    public void A_reading_without_host_TSC_is_refused_and_its_side_named()
    {
        var (with, without) = (Clock(5), Clock(null));
        var frequency = Frequency(0, 0);
        var source = Assert.Throws<KvmException>(() => TscStepSix.Resolve(0, 0, without, with, frequency, null));
        var destination = Assert.Throws<KvmException>(() => TscStepSix.Resolve(0, 0, with, without, frequency, null));
        Refusal.AssertExplains(source, KvmErrorId.ClockWithoutTriple);
        Refusal.AssertExplains(destination, KvmErrorId.ClockWithoutTriple);
        Assert.Contains("The source's", source.Message, StringComparison.Ordinal);
        Assert.Contains("The destination's", destination.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_scaled_source_needs_the_destinations_ratio()
    {
        var exception = Assert.Throws<KvmException>(() => TscStepSix.Resolve(3, 0, Clock(5), Clock(5), Frequency(3UL << 47, 48), null));
        Refusal.AssertExplains(exception, KvmErrorId.InvalidValue);
        Assert.Equal(3, exception.VcpuId);
    }

    [Fact]
    public void A_source_that_scales_one_to_one_needs_none() =>
        Assert.Equal(7, TscStepSix.Resolve(3, 7, Clock(5), Clock(5), Frequency(1UL << 48, 48), null).OffsetTicks);

    [Fact]
    public void The_offset_is_the_destinations()
    {
        var offset = TscStepSix.Resolve(3, 7, Clock(5), Clock(5), Frequency(0, 0), null);
        Assert.Equal(("vm", 12, "12:3", 3), (offset.VMName, offset.ProcessId, offset.VMId, offset.VcpuId));
    }

    /// <summary>As one that came back from a document has it, in which there is a number all the same.</summary>
    [Fact]
    public void A_host_TSC_that_the_flags_do_not_vouch_for_is_none()
    {
        var reading = new KvmClock("vm", 12, "12:3", 100, 1, 0, KvmClockFlags.Realtime, 0);
        Assert.Equal((1UL, null), (reading.RealtimeNanoseconds, reading.HostTsc));
        Assert.Null(new KvmClock("vm", 12, "12:3", 100, 1, 0, KvmClockFlags.HostTsc, 0).RealtimeNanoseconds);
        var refused = Assert.Throws<KvmException>(() => TscStepSix.Resolve(0, 0, reading, Clock(5), Frequency(0, 0), null));
        Refusal.AssertExplains(refused, KvmErrorId.ClockWithoutTriple);
    }

    private static KvmClock Clock(ulong? hostTsc) => new("vm", 12, "12:3", 100, 1, hostTsc, hostTsc is null ? KvmClockFlags.None : KvmClockFlags.HostTsc, 0);

    private static KvmTscFrequency Frequency(ulong ratio, int bits) => new("source", 1, "1:2", 3, 1_500_000, 1_000_000, ratio, bits, 0);
}
