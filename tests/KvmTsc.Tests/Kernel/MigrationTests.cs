using KvmTsc.Clocks;
using KvmTsc.Local;
using KvmTsc.Migration;
using KvmTsc.Tests.Semantics;

namespace KvmTsc.Tests.Kernel;

/// <summary>Migrations between two VMs of a real kernel, the guests' own readings as witnesses.</summary>
[Collection(KvmCollection.Name)]
[Trait("Category", "Kvm")]
public sealed class MigrationTests : IDisposable
{
    private readonly KvmHost _host = new();

    public void Dispose() => _host.Dispose();

    [Theory]
    [InlineData(TscMethod.Best, 1)]
    [InlineData(TscMethod.Best, 4)]
    [InlineData(TscMethod.Documented, 1)]
    [InlineData(TscMethod.Documented, 4)]
    public void The_destinations_guest_reads_the_sources_TSC(TscMethod method, int vcpuCount)
    {
        var (source, destination) = Pair(vcpuCount);
        var result = TscMigration.Run(source, destination, new TscRestoreOptions(method), CancellationToken.None);
        foreach (var vcpu in result.Vcpus)
        {
            // Both guests live on one TSC, so the destination's reading less the residual lies between two of the source.
            var before = source.ReadGuestTsc(vcpu.VcpuId).GuestTsc;
            var between = destination.ReadGuestTsc(vcpu.VcpuId).GuestTsc;
            var after = source.ReadGuestTsc(vcpu.VcpuId).GuestTsc;
            Assert.InRange(unchecked(between - (ulong)vcpu.ResidualTicks), before, after);
        }
    }

    [Fact]
    public void On_one_boot_the_offsets_are_the_sources_to_the_tick()
    {
        var (source, destination) = Pair(3);
        var result = TscMigration.Run(source, destination, new TscRestoreOptions(), CancellationToken.None);
        Assert.Equal((0, ResidualMeasure.HostTsc), (result.ResidualTicks, result.MeasuredBy));
        foreach (var id in source.VcpuIds)
        {
            Assert.Equal(KvmHost.OffsetInDebugfs(source, id), KvmHost.OffsetInDebugfs(destination, id));
            Assert.Equal(KvmHost.OffsetInDebugfs(destination, id), result.Vcpus[id].NewOffsetTicks);
        }
    }

    [Theory]
    [InlineData(TscMethod.Best)]
    [InlineData(TscMethod.Documented)]
    public void The_residuals_lie_within_the_reported_bound(TscMethod method)
    {
        for (var i = 0; i < 10; i++)
        {
            var (source, destination) = Pair(2);
            var result = TscMigration.Run(source, destination, new TscRestoreOptions(method), CancellationToken.None);
            Assert.InRange(Math.Abs(result.ResidualNanoseconds), 0, result.ErrorBoundNanoseconds);
            Assert.InRange(Math.Abs(result.ClockResidualNanoseconds), 0, result.ErrorBoundNanoseconds);
        }
    }

    [Fact]
    public void The_reported_residual_is_that_of_the_offsets_in_debugfs()
    {
        var (source, destination) = Pair(2);
        var result = TscMigration.Run(source, destination, new TscRestoreOptions(TscMethod.Documented), CancellationToken.None);
        Assert.All(result.Vcpus, vcpu => Assert.Equal(
            KvmHost.OffsetInDebugfs(destination, vcpu.VcpuId) - KvmHost.OffsetInDebugfs(source, vcpu.VcpuId), vcpu.ResidualTicks));
    }

    [Fact]
    public void A_destination_that_never_ran_is_restored()
    {
        var source = _host.CreateSource(2);
        var destination = _host.CreateWithoutClock(2);
        TscMigration.Run(source, destination, new TscRestoreOptions(), CancellationToken.None);
        Assert.Equal(0xEu, Raw.GetClock(destination).Flags);
    }

    [Theory]
    [InlineData(true, true)]
    [InlineData(true, false)]
    [InlineData(false, true)]
    [InlineData(false, false)]
    public void A_destination_whose_vCPUs_are_out_of_step_is_brought_in_step(bool writtenBack, bool noticed)
    {
        var source = _host.CreateSource(3);
        var destination = _host.Create(3);
        var offset = Raw.GetOffset(destination, 1);
        Raw.SetOffset(destination, 1, offset + 4711);
        if (writtenBack)
            Raw.SetOffset(destination, 1, offset);
        if (noticed)
        {
            destination.ReadGuestTsc(0);
            Assert.Equal(0u, Raw.GetClock(destination).Flags);
        }

        foreach (var method in Enum.GetValues<TscMethod>())
        {
            TscMigration.Run(source, destination, new TscRestoreOptions(method, Force: true), CancellationToken.None);
            foreach (var id in destination.VcpuIds)
                destination.ReadGuestTsc(id);
            Assert.Equal(0xEu, Raw.GetClock(destination).Flags);
            Assert.Single(destination.VcpuIds.Select(id => KvmHost.OffsetInDebugfs(destination, id)).Distinct());
        }
    }

    [Fact]
    public void A_state_is_restored_to_the_VM_that_it_is_of_as_if_nothing_had_been()
    {
        var machine = _host.CreateSource(2);
        var offset = KvmHost.OffsetInDebugfs(machine, 0);
        var state = KvmTscState.Save(machine, force: false, CancellationToken.None);
        GuestTsc.SetOffsets(machine, machine.VcpuIds.ToDictionary(id => id, _ => offset + 5_000_000), force: false, CancellationToken.None);
        new TscRestore(machine, state, new TscRestoreOptions(Force: true)).Run(CancellationToken.None);
        Assert.All(machine.VcpuIds, id => Assert.Equal(offset, KvmHost.OffsetInDebugfs(machine, id)));
    }

    [Fact]
    public void A_preview_foretells_the_offsets_and_changes_nothing()
    {
        var (source, destination) = Pair(2);
        var before = KvmHost.OffsetInDebugfs(destination, 0);
        var restore = new TscRestore(destination, KvmTscState.Save(source, force: false, CancellationToken.None), new TscRestoreOptions());
        var preview = restore.Preview(CancellationToken.None);
        Assert.Equal(before, KvmHost.OffsetInDebugfs(destination, 0));
        Assert.All(preview.Vcpus, vcpu => Assert.Equal((before, (long?)KvmHost.OffsetInDebugfs(source, 0)), (vcpu.OldOffset, vcpu.NewOffset)));
        restore.Run(CancellationToken.None);
        Assert.Equal(preview.Vcpus[0].NewOffset, KvmHost.OffsetInDebugfs(destination, 0));
    }

    private (LocalMachine Source, LocalMachine Destination) Pair(int vcpuCount) => (_host.CreateSource(vcpuCount), _host.Create(vcpuCount, "destination"));
}
