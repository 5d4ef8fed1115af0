using KvmTsc.Hosts;
using KvmTsc.Migration;
using KvmTsc.Tests.Simulation;

namespace KvmTsc.Tests.Migration;

public sealed class KvmTscStateTests
{
    [Fact]
    public void A_state_holds_what_the_kernel_gave_at_one_stop() => Properties.Hold(MigrationScenario.Any, scenario =>
    {
        var source = scenario.Start().Source;
        var (stops, issued) = (source.Stops, source.Log.Count);
        var state = KvmTscState.Save(source, force: false, CancellationToken.None);

        Assert.Equal(stops + 1, source.Stops);
        var clock = Assert.Single(source.Log.Skip(issued), ioctl => ioctl.Clock is not null).Clock!;
        Assert.Equal((clock.Clock, clock.Realtime, clock.HostTsc), (state.ClockNanoseconds, state.RealtimeNanoseconds, state.HostTsc));
        Assert.Equal(
            source.Picture(),
            state.Vcpus.Select(vcpu => new SimulatedMachine.VcpuPicture(vcpu.VcpuId, unchecked((ulong)vcpu.OffsetTicks), vcpu.TscKHz, vcpu.ScalingRatio)));
        Assert.All(state.Vcpus, vcpu => Assert.Equal(source.SimulatedHost.FractionBits, vcpu.ScalingFractionBits));
        Assert.Equal((source.Identity.Name, source.Identity.ProcessId, source.Identity.Id), (state.VMName, state.ProcessId, state.VMId));
        Assert.Equal((source.Vmm, typeof(KvmTscState).Assembly.GetName().Version!.ToString(3)), (state.Vmm, state.ToolVersion));
        Assert.Equal((scenario.Source.BootId, scenario.Source.TscKHz), (state.Host.BootId, state.Host.TscKHz));
        Assert.Equal(12.5, state.StoppedMicroseconds);
    }, times: 100);

    [Fact]
    public void When_it_was_captured_is_the_hosts_time_in_UTC()
    {
        var captured = State(1_760_000_000_123_456_789).Captured;
        Assert.Equal(new DateTime(2025, 10, 9, 8, 53, 20, DateTimeKind.Utc).AddTicks(1_234_567), captured);
        Assert.Equal(DateTimeKind.Utc, captured.Kind);
    }

    [Fact]
    public void A_time_beyond_what_a_date_can_be_does_no_harm() => Assert.True(State(ulong.MaxValue).Captured.Year > 2500);

    private static KvmTscState State(ulong realtime) => new(
        "vm", 1, "1:2", "qemu", 5, realtime, 5, [new KvmVcpuTscState(0, 0, 1_000_000, 0, 0)],
        new KvmHostIdentity("h", null, "b", "6.1", 1_000_000, 0, 0, 0, 0), 0, "0.1.0");
}
