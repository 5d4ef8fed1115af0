using KvmTsc.Clocks;
using KvmTsc.Interop;
using KvmTsc.Local;
using KvmTsc.Machines;
using KvmTsc.Migration;
using KvmTsc.Tests.Semantics;
using KvmTsc.Tests.Simulation;

namespace KvmTsc.Tests.Kernel;

/// <summary>VMs of this process: their making, their use from several threads, and their end.</summary>
[Collection(KvmCollection.Name)]
[Trait("Category", "Kvm")]
public sealed class LocalMachineTests : IDisposable
{
    private readonly KvmHost _host = new();

    public void Dispose()
    {
        LocalMachines.Clear();
        _host.Dispose();
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(64)]
    public void A_VM_has_as_many_vCPUs_as_asked_for(int count)
    {
        var machine = _host.Create(count);
        Assert.Equal(Enumerable.Range(0, count), machine.VcpuIds);
        Assert.Equal(count, Directory.GetDirectories(Assert.Single(KvmHost.DebugfsOf(machine)), "vcpu*").Length);
        var (before, guest, after) = machine.ReadGuestTsc(count - 1);
        var offset = unchecked((ulong)KvmHost.OffsetInDebugfs(machine, count - 1));
        Assert.InRange(unchecked(guest - offset), before, after);
        Assert.Equal(count, KvmTscState.Save(machine, force: false, CancellationToken.None).Vcpus.Count);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(-1)]
    [InlineData(int.MinValue)]
    [InlineData(int.MaxValue)]
    public void A_number_of_vCPUs_that_makes_no_sense_is_refused(int count) => RefusedCount(count);

    [Fact]
    public void More_vCPUs_than_the_kernel_has_are_refused_with_the_most_there_can_be()
    {
        var maximum = _host.Device.Check(KvmCapability.MaxVcpus);
        Assert.Contains($" {maximum}.", RefusedCount(maximum + 1).RecommendedAction, StringComparison.Ordinal);
    }

    [Fact]
    public void A_new_VM_starts_its_clock_at_0_with_the_master_clock_on()
    {
        var clock = Raw.GetClock(_host.Create(2));
        Assert.Equal(0xEu, clock.Flags);
        Assert.InRange(clock.Clock, 0ul, 600_000_000_000ul);
    }

    [Fact]
    public void A_VM_that_cannot_be_had_leaves_nothing_behind()
    {
        var descriptors = KvmHost.Descriptors;
        var exception = Assert.Throws<KvmException>(() => LocalMachine.Create(_host.Device, "test", 2, tscKHz: 0));
        Refusal.AssertExplains(exception, KvmErrorId.FrequencyUnsupported);
        Assert.Equal(descriptors, KvmHost.Descriptors);
    }

    [Fact]
    public void A_VM_has_the_frequency_asked_for()
    {
        var kHz = _host.Create(1).HostTsc.KHz + 1;
        Assert.All(GuestTsc.ReadFrequencies(_host.Create(2, tscKHz: kHz), null, CancellationToken.None), vcpu => Assert.Equal(kHz, vcpu.TscKHz));
    }

    [Fact]
    public void Removing_a_VM_closes_all_its_descriptors()
    {
        var descriptors = KvmHost.Descriptors;
        var machine = LocalMachine.Create(_host.Device, "test", 5);
        Assert.Equal(descriptors + 6, KvmHost.Descriptors);
        machine.Dispose();
        Assert.Equal(descriptors, KvmHost.Descriptors);
        machine.Dispose();
    }

    [Fact]
    public void Whatever_is_done_with_a_removed_VM_says_so()
    {
        var machine = _host.Create(1);
        var state = KvmTscState.Save(machine, force: false, CancellationToken.None);
        machine.Dispose();
        Action[] actions =
        [
            () => GuestClock.Read(machine, CancellationToken.None),
            () => GuestClock.Set(machine, 5, null, force: true, CancellationToken.None),
            () => GuestTsc.ReadOffsets(machine, null, CancellationToken.None),
            () => GuestTsc.SetOffsets(machine, new Dictionary<int, long> { [0] = 1 }, force: true, CancellationToken.None),
            () => GuestTsc.ReadFrequencies(machine, null, CancellationToken.None),
            () => KvmTscState.Save(machine, force: true, CancellationToken.None),
            () => new TscRestore(machine, state, new TscRestoreOptions(Force: true)).Run(CancellationToken.None),
            () => machine.ReadGuestTsc(0),
        ];
        foreach (var action in actions)
            Refusal.AssertExplains(Assert.Throws<KvmException>(action), KvmErrorId.VMRemoved);
    }

    [Fact]
    public async Task A_VM_can_be_removed_while_others_use_it()
    {
        for (var round = 0; round < 3; round++)
        {
            var machine = _host.Create(2);
            using var started = new CountdownEvent(3);
            Task[] users = [UseUntilRemoved(() => machine.ReadGuestTsc(1)), UseUntilRemoved(() => GuestClock.Read(machine, CancellationToken.None)), UseUntilRemoved(() => GuestTsc.ReadOffsets(machine, null, CancellationToken.None))];
            started.Wait(TestContext.Current.CancellationToken);
            machine.Dispose();
            await Task.WhenAll(users);

            Task UseUntilRemoved(Action use) => Task.Run(() =>
            {
                use();
                started.Signal();
                Refusal.AssertExplains(Assert.Throws<KvmException>(() => Forever(use)), KvmErrorId.VMRemoved);
            });
        }
    }

    [Fact]
    public async Task Several_threads_never_see_a_mix_of_offsets()
    {
        const int Rounds = 200;
        var machine = _host.Create(4);
        await Task.WhenAll(
            Task.Run(() => Write(1_000_000), TestContext.Current.CancellationToken),
            Task.Run(() => Write(2_000_000), TestContext.Current.CancellationToken),
            Task.Run(Read, TestContext.Current.CancellationToken),
            Task.Run(Run, TestContext.Current.CancellationToken));
        Assert.Single(machine.VcpuIds.Select(id => KvmHost.OffsetInDebugfs(machine, id)).Distinct());

        void Write(long first)
        {
            for (var i = 0; i < Rounds; i++)
                GuestTsc.SetOffsets(machine, machine.VcpuIds.ToDictionary(id => id, _ => first + i), force: true, CancellationToken.None);
        }

        void Read()
        {
            for (var i = 0; i < Rounds; i++)
            {
                Assert.Single(GuestTsc.ReadOffsets(machine, null, CancellationToken.None).Select(vcpu => vcpu.OffsetTicks).Distinct());
                Assert.Equal(4, KvmTscState.Save(machine, force: false, CancellationToken.None).Vcpus.Count);
            }
        }

        void Run()
        {
            for (var i = 0; i < Rounds; i++)
                machine.ReadGuestTsc(i % 4);
        }
    }

    [Fact]
    public void Waiting_for_a_VM_that_is_in_use_can_be_cancelled()
    {
        var machine = _host.Create(1);
        using var cancellation = new CancellationTokenSource();
        machine.Executor.WhileStopped(
            _ =>
            {
                var waiting = Task.Run(() => GuestClock.Read(machine, cancellation.Token), TestContext.Current.CancellationToken);
                cancellation.Cancel();
                return Assert.ThrowsAnyAsync<OperationCanceledException>(() => waiting).GetAwaiter().GetResult();
            },
            CancellationToken.None);
        GuestClock.Read(machine, CancellationToken.None);
    }

    [Fact]
    public void What_fails_while_a_VM_is_stopped_lets_it_go_on()
    {
        var machine = _host.Create(1);
        Assert.Throws<InvalidDataException>(() => machine.Executor.WhileStopped<int>(_ => throw new InvalidDataException(), CancellationToken.None));
        GuestClock.Read(machine, CancellationToken.None);
    }

    [Fact]
    public void Names_are_given_and_each_once()
    {
        var first = LocalMachines.Create(null, 1, null);
        var second = LocalMachines.Create(null, 1, null);
        Assert.Equal(("vm1", "vm2"), (first.Identity.Name, second.Identity.Name));
        Refusal.AssertExplains(Assert.Throws<KvmException>(() => LocalMachines.Create("VM2", 1, null)), KvmErrorId.VMNameTaken);
        Assert.Equal([first, second], LocalMachines.All);

        LocalMachines.Remove(first);
        Assert.Equal([second], LocalMachines.All);
        Assert.Equal("vm1", LocalMachines.Create(null, 1, null).Identity.Name);
        LocalMachines.Clear();
        Assert.Empty(LocalMachines.All);
        Assert.Equal(0, KvmHost.Descriptors);
    }

    [Fact]
    public void A_VM_is_identified_by_its_process_and_descriptor()
    {
        var machine = _host.Create(2, "web01");
        Assert.Equal(("web01", Environment.ProcessId), (machine.Identity.Name, machine.Identity.ProcessId));
        var parts = machine.Identity.Id.Split(':');
        Assert.Equal($"{Environment.ProcessId}", parts[0]);
        Assert.Equal("anon_inode:kvm-vm", new FileInfo($"/proc/self/fd/{parts[1]}").LinkTarget);
        Assert.Equal([(0, KvmVcpuState.Stopped), (1, KvmVcpuState.Stopped)], machine.DescribeVcpus().Select(vcpu => (vcpu.VcpuId, vcpu.State)));
    }

    [Fact]
    public void A_vCPU_that_does_not_exist_is_named()
    {
        var exception = Assert.Throws<KvmException>(() => _host.Create(2).ReadGuestTsc(2));
        Refusal.AssertExplains(exception, KvmErrorId.VcpuNotFound);
        Assert.Equal(2, exception.VcpuId);
    }

    [Fact]
    public void A_guest_counts_as_having_run_once_it_has()
    {
        var machine = _host.Create(1);
        Assert.False(machine.GuestHasRun);
        machine.ReadGuestTsc(0);
        Assert.True(machine.GuestHasRun);
    }

    private static void Forever(Action action)
    {
        while (true)
            action();
    }

    private KvmException RefusedCount(int count)
    {
        var descriptors = KvmHost.Descriptors;
        var exception = Assert.Throws<KvmException>(() => LocalMachine.Create(_host.Device, "test", count));
        Refusal.AssertExplains(exception, KvmErrorId.VcpuCountOutOfRange);
        Assert.Contains($"{count} vCPUs", exception.Message, StringComparison.Ordinal);
        Assert.Equal(descriptors, KvmHost.Descriptors);
        return exception;
    }
}
