using KvmTsc.Arithmetic;
using KvmTsc.Clocks;
using KvmTsc.Local;
using KvmTsc.Tests.Semantics;

namespace KvmTsc.Tests.Kernel;

/// <summary>Repairs on a real kernel: its flags, debugfs and the guest's own readings are the judges.</summary>
[Collection(KvmCollection.Name)]
[Trait("Category", "Kvm")]
public sealed class MasterClockRepairTests : IDisposable
{
    private const uint AllFlags = 0xE;
    private readonly KvmHost _host = new();

    public void Dispose() => _host.Dispose();

    [Fact]
    public void A_VM_whose_offsets_diverged_has_one_clock_again_and_no_vCPU_goes_back()
    {
        var machine = _host.Create(3);
        var offset = Raw.GetOffset(machine, 0);
        Raw.SetOffset(machine, 1, offset + 40_000_000);
        Raw.SetOffset(machine, 2, offset - 7);
        var before = Run(machine);
        var off = Raw.GetClock(machine);
        Assert.Equal(0u, off.Flags);

        var result = MasterClock.Repair(machine, 1, force: false, CancellationToken.None);
        Assert.Equal(AllFlags, Raw.GetClock(machine).Flags);
        var after = Run(machine);
        Assert.Equal(AllFlags, Raw.GetClock(machine).Flags);

        Assert.All(machine.VcpuIds, id => Assert.Equal(unchecked((long)offset + 40_000_000), KvmHost.OffsetInDebugfs(machine, id)));
        Assert.Equal([40_000_000, 0, 40_000_007], result.Vcpus.Select(vcpu => vcpu.AdvancedTicks));
        Assert.All(machine.VcpuIds, id => Assert.True(TscArithmetic.Distance(before[id], after[id]) > result.Vcpus[id].AdvancedTicks));
        Assert.True(off.Clock < result.OldClockNanoseconds && result.OldClockNanoseconds < result.NewClockNanoseconds);
        Assert.True(result.ClockJumpNanoseconds < 0);
    }

    [Fact]
    public void A_VM_whose_odd_offset_was_written_back_has_its_master_clock_again()
    {
        var machine = _host.Create(2);
        var offset = Raw.GetOffset(machine, 0);
        Raw.SetOffset(machine, 1, offset + 5);
        Run(machine);
        Raw.SetOffset(machine, 1, offset);
        Run(machine);
        Assert.Equal(0u, Raw.GetClock(machine).Flags);
        var result = MasterClock.Repair(machine, 0, force: false, CancellationToken.None);
        Assert.Equal((true, 0L), (result.Changed, result.AdvancedTicks));
        Run(machine);
        Assert.Equal(AllFlags, Raw.GetClock(machine).Flags);
    }

    [Fact]
    public void Before_anything_has_noticed_kvmclock_is_moved_by_what_the_result_says()
    {
        var machine = _host.Create(2);
        Raw.SetOffset(machine, 1, Raw.GetOffset(machine, 0) + 1000);
        var before = Raw.GetClock(machine);
        var result = MasterClock.Repair(machine, 1, force: false, CancellationToken.None);
        var after = Raw.GetClock(machine);
        var expected = before.Clock + PvclockScale.ToNanoseconds(machine.HostTsc.KHz).Apply(after.HostTsc - before.HostTsc);
        Assert.InRange(TscArithmetic.Distance(expected, after.Clock) - result.ClockJumpNanoseconds, -100, 100);
    }

    /// <summary>Runs each vCPU; returns the TSC that it read.</summary>
    private static ulong[] Run(LocalMachine machine) => [.. machine.VcpuIds.Select(id => machine.ReadGuestTsc(id).GuestTsc)];
}
