using System.Diagnostics;
using KvmTsc.Discovery;
using KvmTsc.Local;
using KvmTsc.Machines;
using KvmTsc.Processes;
using KvmTsc.Tests.Kernel;

namespace KvmTsc.Tests.Discovery;

/// <summary>Finds the VMs of processes that know nothing of KvmTsc.</summary>
[Collection(KvmCollection.Name)]
[Trait("Category", "Kvm")]
public sealed class DiscoveryTests(Programs programs)
{
    [Fact]
    public void A_QEMU_that_waits_to_be_started_is_found()
    {
        using var qemu = OtherProcess.StartQemu("-name", "web 01,, old,process=renamed", "-smp", "2", "-S");
        var machine = Assert.Single(Until.True(qemu.Find, found => found is [{ VcpuIds.Count: 2 }]));

        var vm = new KvmVM(machine);
        Assert.Equal("web 01, old", vm.VMName);
        Assert.Equal("QEMU", vm.Vmm);
        Assert.Equal(qemu.Id, vm.ProcessId);
        Assert.Equal($"{qemu.Id}:{machine.Target.VMDescriptor}", vm.VMId);
        Assert.Equal(2, vm.VcpuCount);
        Assert.True(vm.CanAttach, vm.Reason);
        Assert.Null(vm.Reason);
        Assert.False(machine.GuestHasRun);
        Assert.Equal($"/sys/kernel/debug/kvm/{qemu.Id}-{machine.Target.VMDescriptor}", machine.Target.DebugfsDirectory);
        Assert.Equal([0, 1], machine.Target.VcpuDescriptors.Keys.Order());
        Assert.All(machine.Target.VcpuDescriptors, vcpu => Assert.Equal($"anon_inode:kvm-vcpu:{vcpu.Key}", Link(qemu.Id, vcpu.Value[0])));
        Assert.All(machine.DescribeVcpus(), vcpu => Assert.Equal((null, KvmVcpuState.Stopped), (vcpu.ThreadId, vcpu.State)));
    }

    [Fact]
    public void A_QEMU_that_runs_has_its_vCPUs_threads()
    {
        using var qemu = OtherProcess.StartQemu("-name", "guest=web01,debug-threads=on", "-smp", "2");
        // The second vCPU waits in KVM_RUN for the first to start it, which never comes.
        var vcpus = Until.True(() => qemu.Find() is [var found] ? found.DescribeVcpus() : [], found => found is [_, { State: KvmVcpuState.Halted }]);
        Assert.All(vcpus, vcpu =>
        {
            Assert.Equal($"CPU {vcpu.VcpuId}/KVM", File.ReadAllText($"/proc/{qemu.Id}/task/{vcpu.ThreadId}/comm").Trim());
            Assert.Equal(("web01", qemu.Id), (vcpu.VMName, vcpu.ProcessId));
        });
        Assert.True(qemu.FindOne().GuestHasRun);
    }

    [Fact]
    public void The_VMs_of_this_process_come_first_and_are_no_other_processs()
    {
        using var other = OtherProcess.StartReady(programs.VMs, "vm", "vcpu", "0", "0");
        var local = LocalMachines.Create("mine", 1, null);
        try
        {
            Assert.Same(local, VMCatalog.All[0]);
            Assert.Single(VMCatalog.All, machine => machine.Identity.ProcessId == other.Id);
            Assert.Equal(VMCatalog.All.Count, VMCatalog.All.Select(machine => machine.Identity.Id).Distinct().Count());
            Assert.DoesNotContain(VMDiscovery.All(), machine => machine.Identity.ProcessId == Environment.ProcessId);
            Assert.Empty(VMDiscovery.Of(Environment.ProcessId));
            Assert.True(new KvmVM(local).CanAttach);
        }
        finally
        {
            LocalMachines.Remove(local);
        }
    }

    [Fact]
    public void A_VM_without_vCPUs_is_one()
    {
        using var other = OtherProcess.StartReady(programs.VMs, "vm");
        var machine = other.FindOne();
        Assert.Equal($"vms:{other.Id}", machine.Identity.Name);
        Assert.Equal("vms", machine.Vmm);
        Assert.Empty(machine.VcpuIds);
        Assert.Empty(machine.DescribeVcpus());
        Assert.False(machine.GuestHasRun);
        Assert.Null(machine.FindAttachObstacle());
    }

    [Fact]
    public void VMs_of_one_name_are_told_apart_by_their_processes()
    {
        using var qemu = OtherProcess.StartQemu("-name", "web01", "-S");
        using var clone = OtherProcess.StartQemu("-name", "WEB01", "-S");
        using var other = OtherProcess.StartQemu("-name", "web02", "-S");
        var all = Until.True(VMDiscovery.All, found => found.Count >= 3).Where(machine => machine.Vmm == "QEMU");
        Assert.Equal(
            new[] { $"web01:{qemu.Id}", $"WEB01:{clone.Id}", "web02" }.Order(StringComparer.Ordinal),
            all.Select(machine => machine.Identity.Name).Order(StringComparer.Ordinal));
        Assert.Equal("web01", qemu.FindOne().Identity.Name); // which does not look at others
        Assert.All(["web01", $"web01:{qemu.Id}"], name => Assert.All(all, machine => Assert.Equal(
            machine.Identity.ProcessId == qemu.Id || (name == "web01" && machine.Identity.ProcessId == clone.Id), machine.Identity.IsNamed(name))));
    }

    [Fact]
    public void VMs_of_one_process_are_told_apart()
    {
        using var other = OtherProcess.StartReady(programs.VMs, "vm", "vcpu", "0", "0", "vcpu", "0", "3", "vm", "vcpu", "3", "0", "vcpu", "3", "1", "vm");
        var d = other.Descriptors;
        var found = other.Find();
        Assert.Equal([$"vms:{other.Id}:{d[0]}", $"vms:{other.Id}:{d[3]}", $"vms:{other.Id}:{d[6]}"], found.Select(machine => machine.Identity.Name));
        AssertVcpus(found[0], (0, d[1]), (3, d[2]));
        AssertVcpus(found[1], (0, d[4]), (1, d[5]));
        AssertVcpus(found[2]);
        Assert.All(found, machine => Assert.Null(machine.FindAttachObstacle()));
        Assert.Equal(3, found.Select(machine => machine.Target.DebugfsDirectory).Distinct().Count());
    }

    [Fact]
    public void VMs_that_cannot_be_told_apart_are_listed_and_not_worked_on()
    {
        using var other = OtherProcess.StartReady(programs.VMs, "vm", "vm", "vcpu", "1", "0", "vcpu", "0", "0");
        Assert.Equal(2, other.Find().Count);
        foreach (var machine in other.Find())
        {
            Assert.Equal([0], machine.VcpuIds);
            var vm = new KvmVM(machine);
            Assert.False(vm.CanAttach);
            Assert.Contains("cannot be told", vm.Reason, StringComparison.Ordinal);
            var exception = Assert.Throws<KvmException>(() => machine.Executor.WhileStopped(_ => 0, CancellationToken.None));
            Assert.Equal(KvmErrorId.AttachUnsupported, exception.ErrorId);
        }
    }

    [Fact]
    public void Waiting_vCPUs_tell_whose_they_are()
    {
        using var other = OtherProcess.StartReady(programs.VMs, "vm", "vm", "vcpu", "1", "0", "vcpu", "0", "0", "halt", "2", "halt", "3");
        var d = other.Descriptors;
        var found = Until.True(other.Find, found => found.All(machine => machine.FindAttachObstacle() is null));
        AssertVcpus(found[0], (0, d[3]));
        AssertVcpus(found[1], (0, d[2]));
        Assert.Equal(other.Threads.Reverse(), found.SelectMany(machine => machine.DescribeVcpus()).Select(vcpu => vcpu.ThreadId!.Value));
    }

    [Fact]
    public void Waiting_vCPUs_tell_even_where_the_order_of_descriptors_misleads()
    {
        // The second VM's vCPU gets the descriptor that was freed below that VM's own.
        using var other = OtherProcess.StartReady(programs.VMs, "vm", "open", "vm", "vcpu", "0", "0", "close", "1", "vcpu", "2", "0", "halt", "3", "halt", "4");
        var d = other.Descriptors;
        Assert.Equal(d[1], d[4]);
        var found = Until.True(other.Find, found => found.All(machine => !machine.IsAssignedByOrder && machine.FindAttachObstacle() is null));
        AssertVcpus(found[0], (0, d[3]));
        AssertVcpus(found[1], (0, d[4]));
    }

    [Fact]
    public void Where_only_the_order_of_descriptors_tells_that_is_said()
    {
        using var one = OtherProcess.StartReady(programs.VMs, "vm", "vcpu", "0", "0");
        Assert.False(one.FindOne().IsAssignedByOrder);
        using var two = OtherProcess.StartReady(programs.VMs, "vm", "vcpu", "0", "0", "vm", "vcpu", "2", "0");
        Assert.All(two.Find(), machine => Assert.True(machine.IsAssignedByOrder));
        using var differing = OtherProcess.StartReady(programs.VMs, "vm", "vcpu", "0", "0", "vm", "vcpu", "2", "1");
        Assert.All(differing.Find(), machine => Assert.False(machine.IsAssignedByOrder));
    }

    [Fact]
    public void Duplicated_descriptors_are_one_VM_and_one_vCPU()
    {
        using var other = OtherProcess.StartReady(programs.VMs, "vm", "vcpu", "0", "0", "dup", "0", "dup", "1", "dup", "1");
        var machine = other.FindOne();
        AssertVcpus(machine, (0, other.Descriptors[1]));
        Assert.Null(machine.FindAttachObstacle());
    }

    [Fact]
    public void A_VM_whose_first_descriptor_is_closed_is_found_by_the_other()
    {
        using var other = OtherProcess.StartReady(programs.VMs, "vm", "vcpu", "0", "0", "dup", "0", "close", "0", "halt", "1");
        var machine = other.FindOne();
        Assert.Equal(other.Descriptors[2], machine.Target.VMDescriptor);
        AssertVcpus(machine, (0, other.Descriptors[1]));
    }

    [Fact]
    public void A_vCPU_whose_descriptor_is_closed_keeps_its_VM_from_being_worked_on()
    {
        using var other = OtherProcess.StartReady(programs.VMs, "vm", "vcpu", "0", "0", "vcpu", "0", "1", "close", "2");
        var machine = other.FindOne();
        Assert.Equal([0, 1], machine.VcpuIds);
        Assert.Equal(KvmErrorId.AttachUnsupported, machine.FindAttachObstacle()?.ErrorId);
    }

    [Fact]
    public void A_child_that_inherits_a_VM_does_not_own_it()
    {
        using var other = OtherProcess.StartReady(programs.VMs, "vm", "vcpu", "0", "0", "fork");
        var child = Assert.Single(other.Children);
        Assert.Equal("anon_inode:kvm-vm", Link(child, other.Descriptors[0]));
        Assert.Empty(VMDiscovery.Of(child));
        var all = VMDiscovery.All();
        Assert.Single(all, machine => machine.Identity.ProcessId == other.Id);
        Assert.DoesNotContain(all, machine => machine.Identity.ProcessId == child);
    }

    [Fact]
    public void A_VM_whose_creating_thread_has_ended_is_recognised_by_its_vCPUs_threads()
    {
        using var other = OtherProcess.StartReady(programs.VMs, "thread", "vm", "vcpu", "0", "0", "join", "halt", "1");
        var machine = Until.True(other.FindOne, machine => machine.Target.DebugfsDirectory is not null);
        AssertVcpus(machine, (0, other.Descriptors[1]));
        Assert.NotEqual(other.Id.ToString(System.Globalization.CultureInfo.InvariantCulture), Path.GetFileName(machine.Target.DebugfsDirectory)!.Split('-')[0]);
        Assert.Equal(other.Threads[0], Assert.Single(machine.DescribeVcpus()).ThreadId);
    }

    [Fact]
    public void A_VM_whose_creator_is_unknown_can_be_worked_on_all_the_same()
    {
        using var other = OtherProcess.StartReady(programs.VMs, "thread", "vm", "vcpu", "0", "0", "join");
        // A thread that has been joined can still be seen for a moment.
        var machine = Until.True(other.FindOne, machine => machine.Target.DebugfsDirectory is null);
        AssertVcpus(machine, (0, other.Descriptors[1]));
        Assert.Null(machine.FindAttachObstacle());
        Assert.True(machine.GuestHasRun);
    }

    [Fact]
    public void VMs_in_namespaces_of_their_own_have_the_hosts_ids()
    {
        using var container = OtherProcess.StartReady(
            "unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", programs.VMs, "vm", "vcpu", "0", "0", "halt", "1");
        var machine = Until.True(
            () => VMDiscovery.All().Cast<ProcessMachine>().Single(machine => ParentOf(machine.Identity.ProcessId) == container.Id),
            machine => machine.GuestHasRun);
        var vcpu = Assert.Single(Until.True(machine.DescribeVcpus, vcpus => vcpus[0].State == KvmVcpuState.Halted));
        Assert.True(Directory.Exists($"/proc/{machine.Identity.ProcessId}/task/{vcpu.ThreadId}"));
        // To the process itself the thread is its second one.
        Assert.Equal([2], container.Threads);
        Assert.NotNull(machine.Target.DebugfsDirectory);
        Assert.Null(machine.FindAttachObstacle());
    }

    [Fact]
    public void Processes_that_end_while_they_are_looked_at_are_no_error()
    {
        using var steady = OtherProcess.StartReady(programs.VMs, "vm", "vcpu", "0", "0");
        using var churn = OtherProcess.Start("sh", "-c", "while :; do \"$0\" vm vcpu 0 0 </dev/null >/dev/null; /bin/true & done", programs.VMs);
        var seen = 0;
        var clock = Stopwatch.StartNew();
        for (var i = 0; i < 50 || (seen == 0 && clock.Elapsed < TimeSpan.FromMinutes(2)); i++)
        {
            var found = VMDiscovery.All();
            Assert.Single(found, machine => machine.Identity.ProcessId == steady.Id);
            var others = found.Where(machine => machine.Identity.ProcessId != steady.Id).ToArray();
            seen += others.Length;
            foreach (var machine in others)
            {
                Assert.Equal($"vms:{machine.Identity.ProcessId}", machine.Identity.Name);
                Assert.True(new KvmVM(machine) is { CanAttach: true } or { Reason: not null });
                _ = machine.DescribeVcpus();
                _ = machine.GuestHasRun;
            }
        }

        Assert.True(seen > 0, "No process was caught.");
        Assert.False(churn.HasExited);
    }

    [Fact]
    public void Hundreds_of_processes_are_no_matter()
    {
        using var crowd = OtherProcess.StartReady("sh", "-c", "exec 3<&0; for i in $(seq 300); do (read _ <&3) & done; echo ready; wait");
        using var other = OtherProcess.StartReady(programs.VMs, "vm", "vcpu", "0", "0");
        Assert.Single(VMDiscovery.All(), machine => machine.Identity.ProcessId == other.Id);
        crowd.CloseInput();
        Until.True(() => crowd.HasExited, exited => exited);
    }

    [Fact]
    public void A_process_that_has_ended_has_no_VMs()
    {
        using var other = OtherProcess.StartReady(programs.VMs, "vm", "vcpu", "0", "0");
        var machine = other.FindOne();
        other.Kill();
        Assert.Empty(VMDiscovery.Of(other.Id));
        Assert.Equal(KvmErrorId.ProcessGone, machine.FindAttachObstacle()?.ErrorId);
        Assert.Equal((null, KvmVcpuState.Unknown), Assert.Single(machine.DescribeVcpus()) is var vcpu ? (vcpu.ThreadId, vcpu.State) : default);
    }

    [Fact]
    public void A_process_id_that_was_used_again_is_noticed()
    {
        using var other = OtherProcess.StartReady(programs.VMs, "vm", "vcpu", "0", "0");
        var machine = other.FindOne();
        var earlier = new ProcessMachine(machine.Identity, machine.Vmm, machine.StartTime - 1, machine.Found, isOnlyVM: true);
        Assert.Equal(KvmErrorId.ProcessGone, earlier.FindAttachObstacle()?.ErrorId);
    }

    [Fact]
    public void A_zombie_is_no_VMM()
    {
        // The shell becomes a sleep, which does not ask how its child ended.
        using var parent = OtherProcess.StartReady("sh", "-c", "exec 3<&0; \"$0\" vm vcpu 0 0 <&3 & exec sleep 1000", programs.VMs);
        var machine = Assert.Single(VMDiscovery.All(), machine => ParentOf(machine.Identity.ProcessId) == parent.Id);
        parent.CloseInput();
        var id = machine.Identity.ProcessId;
        Until.True(() => ProcessStat.Read($"/proc/{id}")!.State, state => state == 'Z');
        Assert.Empty(VMDiscovery.Of(id));
        Assert.Equal(KvmErrorId.ProcessGone, machine.FindAttachObstacle()?.ErrorId);
    }

    private static void AssertVcpus(ProcessMachine machine, params (int Id, int Descriptor)[] expected)
    {
        Assert.Equal(expected.Select(vcpu => vcpu.Id), machine.VcpuIds);
        Assert.Equal(expected, machine.Target.VcpuDescriptors.OrderBy(vcpu => vcpu.Key).Select(vcpu => (vcpu.Key, vcpu.Value[0])));
    }

    private static string? Link(int processId, int descriptor) => new FileInfo($"/proc/{processId}/fd/{descriptor}").LinkTarget;

    private static int? ParentOf(int processId) => ProcessStat.Read($"/proc/{processId}")?.ParentId;
}
