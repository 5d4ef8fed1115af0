using System.Globalization;
using KvmTsc.Discovery;
using KvmTsc.Machines;
using KvmTsc.Processes;
using KvmTsc.Tests.Kernel;

namespace KvmTsc.Tests.Discovery;

/// <summary>What vCPUs do, with and without debugfs.</summary>
[Collection(KvmCollection.Name)]
[Trait("Category", "Kvm")]
public sealed class VcpuThreadsTests(Programs programs)
{
    [Fact]
    public void Halted_running_and_stopped_vCPUs_are_told_apart()
    {
        using var other = OtherProcess.StartReady(programs.VMs, "vm", "vcpu", "0", "0", "vcpu", "0", "1", "vcpu", "0", "2", "halt", "1", "spin", "2");
        var vcpus = Until.True(
            () => other.FindOne().DescribeVcpus(), found => found is [{ State: KvmVcpuState.Halted }, { State: KvmVcpuState.Running, ThreadId: not null }, _]);
        Assert.Equal([other.Threads[0], other.Threads[1], null], vcpus.Select(vcpu => vcpu.ThreadId));
        Assert.Equal(KvmVcpuState.Stopped, vcpus[2].State);
        Assert.True(other.FindOne().GuestHasRun);
    }

    [Fact]
    public void Without_debugfs_a_waiting_thread_tells_its_vCPU()
    {
        using var other = OtherProcess.StartReady(programs.VMs, "vm", "vcpu", "0", "0", "vcpu", "0", "1", "dup", "2", "halt", "3");
        var found = Until.True(() => Look(other, isOnlyVM: true), vcpus => vcpus[1].State == KvmVcpuState.Halted);
        Assert.Equal([(null, KvmVcpuState.Unknown), (other.Threads[0], KvmVcpuState.Halted)], found);
    }

    [Fact]
    public void Without_debugfs_the_threads_names_tell_their_vCPUs()
    {
        using var other = OtherProcess.StartReady(programs.VMs, "vm", "vcpu", "0", "0", "vcpu", "0", "1", "spin", "2", "halt", "1");
        var found = Until.True(() => Look(other, isOnlyVM: true), vcpus => vcpus[0].State == KvmVcpuState.Halted);
        Assert.Equal([(other.Threads[1], KvmVcpuState.Halted), (other.Threads[0], KvmVcpuState.Running)], found);
        // The same name may be that of a vCPU of another VM.
        Assert.Equal((null, KvmVcpuState.Unknown), Look(other, isOnlyVM: false)[1]);
    }

    /// <summary>Since Linux 6.12 KVM has a thread of its own in the process, which by procfs is in the KVM_RUN of the vCPU that first ran.</summary>
    [Fact]
    public void KVMs_own_thread_runs_no_vCPU()
    {
        using var other = OtherProcess.StartReady(programs.VMs, "vm", "vcpu", "0", "0", "spin", "1");
        Until.True(() => other.FindOne().DescribeVcpus()[0], vcpu => vcpu.State == KvmVcpuState.Running);
        var workers = Directory.GetDirectories($"/proc/{other.Id}/task").Where(task => File.ReadAllText($"{task}/comm").StartsWith("kvm-nx", StringComparison.Ordinal))
            .Select(task => int.Parse(Path.GetFileName(task), CultureInfo.InvariantCulture));
        Assert.Empty(new ProcessThreads(other.Id).Read().Intersect(workers));
        Assert.Contains(other.Threads[0], new ProcessThreads(other.Id).Read());
    }

    [Fact]
    public void Names_that_count_otherwise_than_KVM_tell_nothing()
    {
        using var other = OtherProcess.StartReady(programs.VMs, "vm", "vcpu", "0", "0", "vcpu", "0", "1", "spin", "2");
        Assert.All(Look(other, isOnlyVM: true), vcpu => Assert.Equal((null, KvmVcpuState.Unknown), vcpu));
    }

    private static (int? ThreadId, KvmVcpuState State)[] Look(OtherProcess other, bool isOnlyVM)
    {
        using var list = DescriptorList.Open(other.Id);
        var vm = Assert.Single(ProcessVMs.Find(other.Id, Environment.ProcessId, list!.Read(), DebugfsIndex.Empty));
        var threads = new VcpuThreads(other.Id, vm, isOnlyVM);
        return [.. vm.VcpuIds.Select(threads.Look)];
    }
}
