using KvmTsc.Arithmetic;
using KvmTsc.Clocks;
using KvmTsc.Execution;
using KvmTsc.Local;
using KvmTsc.SelfTest;
using KvmTsc.Tests.Semantics;
using KvmTsc.Tests.Simulation;

namespace KvmTsc.Tests.Kernel;

/// <summary>Offsets and frequencies by the engine, with debugfs and the guest's own reading as witnesses.</summary>
[Collection(KvmCollection.Name)]
[Trait("Category", "Kvm")]
public sealed class OffsetTests : IDisposable
{
    private readonly KvmHost _host = new();

    public static TheoryData<long> Offsets => [0, 180_000_000_000, -180_000_000_000, long.MinValue, long.MaxValue, -1];

    public void Dispose() => _host.Dispose();

    [Theory]
    [MemberData(nameof(Offsets))]
    public void What_is_written_is_what_debugfs_and_the_engine_read(long offset)
    {
        var machine = _host.Create(3);
        var written = GuestTsc.SetOffsets(machine, machine.VcpuIds.ToDictionary(id => id, _ => offset), force: false, CancellationToken.None);
        Assert.All(written, vcpu => Assert.Equal(offset, vcpu.OffsetTicks));
        Assert.All(machine.VcpuIds, id => Assert.Equal(offset, KvmHost.OffsetInDebugfs(machine, id)));
        Assert.Equal([offset, offset, offset], GuestTsc.ReadOffsets(machine, null, CancellationToken.None).Select(vcpu => vcpu.OffsetTicks));
    }

    [Fact]
    public void Each_vCPU_keeps_its_own_offset()
    {
        var machine = _host.Create(3);
        GuestTsc.SetOffsets(machine, new Dictionary<int, long> { [0] = 10, [1] = -20, [2] = 30 }, force: true, CancellationToken.None);
        Assert.Equal([10L, -20L, 30L], machine.VcpuIds.Select(id => KvmHost.OffsetInDebugfs(machine, id)));
    }

    /// <summary>The kernel's system_counter_offset_test.</summary>
    [Theory]
    [MemberData(nameof(Offsets))]
    public void The_guest_reads_the_hosts_TSC_plus_the_offset(long offset)
    {
        var machine = _host.Create(3);
        GuestTsc.SetOffsets(machine, machine.VcpuIds.ToDictionary(id => id, _ => offset), force: false, CancellationToken.None);
        foreach (var id in machine.VcpuIds)
        {
            var (before, guest, after) = machine.ReadGuestTsc(id);
            Assert.InRange(unchecked(guest - (ulong)offset), before, after);
        }
    }

    [Fact]
    public void Vcpus_with_different_offsets_read_different_TSCs()
    {
        var machine = _host.Create(2);
        GuestTsc.SetOffsets(machine, new Dictionary<int, long> { [0] = 1L << 61, [1] = -(1L << 61) }, force: true, CancellationToken.None);
        var (first, second) = (machine.ReadGuestTsc(0), machine.ReadGuestTsc(1));
        Assert.InRange(unchecked(first.GuestTsc - (1UL << 61)), first.HostTscBefore, first.HostTscAfter);
        Assert.InRange(unchecked(second.GuestTsc + (1UL << 61)), second.HostTscBefore, second.HostTscAfter);
    }

    [Fact]
    public void The_cmdlets_own_test_passes_on_every_vCPU_and_offset()
    {
        var results = KvmTscOffsetTest.Run(2, null, [.. Offsets.Select(row => row.Data)], CancellationToken.None).ToArray();
        Assert.Equal(12, results.Length);
        Assert.All(results, result => Assert.True(result.Passed, result.Reason));
    }

    [Fact]
    public void A_guests_TSC_goes_on()
    {
        var machine = _host.Create(1);
        var first = machine.ReadGuestTsc(0).GuestTsc;
        Assert.True(machine.ReadGuestTsc(0).GuestTsc > first);
    }

    [Fact]
    public void A_guest_that_has_run_keeps_its_TSC_from_going_back()
    {
        var machine = _host.Create(2);
        GuestTsc.SetOffsets(machine, new Dictionary<int, long> { [0] = 1000, [1] = 1000 }, force: false, CancellationToken.None);
        machine.ReadGuestTsc(1);
        var exception = Assert.Throws<KvmException>(() =>
            GuestTsc.SetOffsets(machine, new Dictionary<int, long> { [0] = 999, [1] = 999 }, force: false, CancellationToken.None));
        Refusal.AssertExplains(exception, KvmErrorId.GuestTscBackwards);
        Assert.Equal(1000, KvmHost.OffsetInDebugfs(machine, 0));
    }

    [Fact]
    public void A_slower_TSC_is_scaled_or_refused_as_the_CPU_can()
    {
        var machine = _host.Create(2);
        var half = machine.HostTsc.KHz / 2;
        var frequencies = machine.VcpuIds.ToDictionary(id => id, _ => half);
        if (_host.Device.Check(Interop.KvmCapability.TscControl) != 0)
        {
            var set = GuestTsc.SetFrequencies(machine, frequencies, force: false, CancellationToken.None);
            Assert.All(set, vcpu => Assert.Equal((half, $"{vcpu.ScalingRatio}"), (vcpu.TscKHz, KvmHost.Debugfs(machine, vcpu.VcpuId, "tsc-scaling-ratio"))));
            Assert.All(set, vcpu => Assert.Equal(machine.HostTsc.RatioFor(half).Multiplier, vcpu.ScalingRatio));
            return;
        }

        var exception = Assert.Throws<KvmException>(() => GuestTsc.SetFrequencies(machine, frequencies, force: true, CancellationToken.None));
        Refusal.AssertExplains(exception, KvmErrorId.FrequencyUnsupported);
        Assert.All(GuestTsc.ReadFrequencies(machine, null, CancellationToken.None), vcpu => Assert.Equal(machine.HostTsc.KHz, vcpu.TscKHz));
    }

    /// <summary>
    /// To what the kernel needs between its readings of TSC and CLOCK_REALTIME, which is more where the host itself is interrupted there: the best of some is
    /// looked at. What it would be off by else takes days to be more; see GuestTscTests.
    /// </summary>
    [Fact]
    public void Kvmclock_goes_on_where_offsets_are_written()
    {
        const int Tries = 10;
        var machine = _host.Create(2);
        var offset = GuestTsc.ReadOffsets(machine, [0], CancellationToken.None)[0].OffsetTicks;
        Assert.InRange(Enumerable.Range(0, Tries).Select(_ => ErrorOfAWrite(machine, offset)).MinBy(Math.Abs), -2_000, 2_000);
    }

    /// <summary>What the engine foresees is also what happens when the kernel is asked all the same, and then it is undone.</summary>
    [Fact]
    public void A_TSC_that_the_kernel_refuses_is_put_back_on_every_vCPU()
    {
        var machine = _host.Create(2);
        var kHz = machine.HostTsc.KHz;
        var tolerated = kHz + (kHz / 10_000);
        var batch = new IoctlBatch();
        var outcome = machine.Executor.WhileStopped(
            stop =>
            {
                // What no CPU has: without scaling it is too slow, with scaling too much for an int.
                var impossible = machine.HostTsc.HasScaling ? 0x7FFFFFFFu : kHz / 2;
                GuestTsc.AddWrites(batch, machine.HostTsc, TscSnapshot.Of(machine).Run(stop), [(0, tolerated), (1, impossible)]);
                return stop.Run(batch);
            },
            CancellationToken.None).Result;
        Assert.Equal((1, 22), (outcome.FailedStep, outcome.ErrorNumber));
        Assert.Empty(outcome.UndoFailures);

        Assert.All(GuestTsc.ReadFrequencies(machine, null, CancellationToken.None), vcpu => Assert.Equal(kHz, vcpu.TscKHz));
    }

    /// <summary>By how much kvmclock is off after an offset was written, in nanoseconds.</summary>
    private static long ErrorOfAWrite(LocalMachine machine, long offset)
    {
        foreach (var id in machine.VcpuIds)
            machine.ReadGuestTsc(id);
        var before = Raw.GetClock(machine);
        Assert.True(before.HasTriple);
        GuestTsc.SetOffsets(machine, machine.VcpuIds.ToDictionary(id => id, _ => offset), force: true, CancellationToken.None);
        foreach (var id in machine.VcpuIds)
            machine.ReadGuestTsc(id);
        var after = Raw.GetClock(machine);
        return TscArithmetic.Distance(before.Clock + PvclockScale.ToNanoseconds(machine.HostTsc.KHz).Apply(after.HostTsc - before.HostTsc), after.Clock);
    }
}
