using KvmTsc.Discovery;
using KvmTsc.Interop;
using KvmTsc.Machines;
using KvmTsc.Processes;
using KvmTsc.Tests.Discovery;
using KvmTsc.Tests.Kernel;

namespace KvmTsc.Tests.Processes;

/// <summary>Whether one process may work inside another, as predicted and as the kernel decides.</summary>
[Collection(KvmCollection.Name)]
[Trait("Category", "Kvm")]
public sealed class AttachRightsTests(Programs programs)
{
    private const string PtraceScope = "/proc/sys/kernel/yama/ptrace_scope";
    private const int Root = 0;
    private const int User = 65500;
    private const int OtherUser = 65501;

    [Theory]
    [InlineData(Root, Root, 0, false, null)]
    [InlineData(Root, User, 2, true, null)]
    [InlineData(User, User, 0, false, null)]
    [InlineData(User, User, 0, true, KvmErrorId.SeccompFilter)]
    [InlineData(User, OtherUser, 0, false, KvmErrorId.AttachDenied)]
    [InlineData(User, Root, 0, false, KvmErrorId.AttachDenied)]
    [InlineData(User, User, 2, false, KvmErrorId.AttachDenied)]
    public void The_kernel_decides_as_predicted(int own, int target, int scope, bool filtered, KvmErrorId? expected)
    {
        using var yama = new Sysctl(PtraceScope, scope);
        using var other = OtherProcess.StartReady(programs.VMs, [.. filtered ? ["filter"] : Array.Empty<string>(), "vm", "vcpu", "0", "0", "user", $"{target}"]);
        var (obstacle, errno) = CredentialThread.RunAs(own, () =>
            (AttachCircumstances.Read(other.Id)!.FindObstacle(), CredentialThread.Seize(other.Id, suspendSeccomp: filtered)));
        Assert.Equal(expected, obstacle?.ErrorId);
        Assert.Equal(expected is null ? 0 : Errno.EPERM, errno);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Under_Yama_1_only_descendants_are_traced(bool descendant)
    {
        using var yama = new Sysctl(PtraceScope, 1);
        // What its parent leaves behind goes to the first process.
        using var other = descendant
            ? OtherProcess.StartReady(programs.VMs, "vm", "user", $"{User}")
            : OtherProcess.StartReady("sh", "-c", "exec 3<&0; \"$0\" vm user \"$1\" <&3 & ", programs.VMs, $"{User}");
        var id = descendant ? other.Id : VMDiscovery.All().Single(machine => machine.Vmm == "vms").Identity.ProcessId;
        var (obstacle, errno) = CredentialThread.RunAs(User, () => (AttachCircumstances.Read(id)!.FindObstacle(), CredentialThread.Seize(id)));
        Assert.Equal(descendant ? null : KvmErrorId.AttachDenied, obstacle?.ErrorId);
        Assert.Equal(descendant ? 0 : Errno.EPERM, errno);
    }

    [Fact]
    public void Another_users_VM_is_not_shown_and_its_process_is_refused()
    {
        using var other = OtherProcess.StartReady(programs.VMs, "vm", "vcpu", "0", "0", "user", $"{OtherUser}");
        Assert.DoesNotContain(CredentialThread.RunAs(User, VMDiscovery.All), machine => machine.Identity.ProcessId == other.Id);
        var exception = Assert.Throws<KvmException>(() => CredentialThread.RunAs(User, () => VMDiscovery.Of(other.Id)));
        Assert.Equal(KvmErrorId.AttachDenied, exception.ErrorId);
    }

    [Fact]
    public void What_is_not_shown_is_counted_where_it_looks_like_a_VMM()
    {
        using var other = OtherProcess.StartReady(programs.VMs, "vm", "user", $"{OtherUser}"); // no VMM that is known
        using var qemu = OtherProcess.StartQemu("-S");
        Until.True(() => qemu.Find().Count, count => count == 1);
        Assert.Equal([qemu.Id], CredentialThread.RunAs(User, VMDiscovery.Unseen));
        Assert.Empty(VMDiscovery.Unseen());
    }

    [Fact]
    public void A_users_own_VM_is_found_without_root()
    {
        using var other = OtherProcess.StartReady(programs.VMs, "vm", "vcpu", "0", "0", "vcpu", "0", "1", "halt", "1", "user", $"{User}");
        var (machine, vcpus) = CredentialThread.RunAs(User, () =>
        {
            var found = other.FindOne();
            return (found, Until.True(found.DescribeVcpus, vcpus => vcpus[0].State == KvmVcpuState.Halted));
        });
        Assert.Null(machine.Target.DebugfsDirectory);
        Assert.Equal([0, 1], machine.VcpuIds);
        Assert.Equal((other.Threads[0], KvmVcpuState.Halted), (vcpus[0].ThreadId, vcpus[0].State));
        Assert.Equal((null, KvmVcpuState.Unknown), (vcpus[1].ThreadId, vcpus[1].State));
    }

    [Fact]
    public void A_traced_process_says_by_whom()
    {
        using var other = OtherProcess.StartReady(programs.VMs, "vm", "vcpu", "0", "0", "halt", "1");
        foreach (var thread in new[] { other.Id, other.Threads[0] })
        {
            var vm = CredentialThread.RunAs(Root, () =>
            {
                Assert.Equal(0, CredentialThread.Seize(thread));
                return new KvmVM(other.FindOne());
            });
            Assert.False(vm.CanAttach);
            Assert.Contains("is traced by", vm.Reason, StringComparison.Ordinal);
            // A tracer that ends lets go.
            Until.True(() => other.FindOne().FindAttachObstacle(), obstacle => obstacle is null);
        }
    }

    [Fact]
    public void A_filter_of_seccomp_is_no_obstacle_for_root()
    {
        using var other = OtherProcess.StartReady(programs.VMs, "filter", "vm", "vcpu", "0", "0");
        Assert.Equal(2, ProcessStatus.Read($"/proc/{other.Id}")!.Seccomp);
        Assert.Null(other.FindOne().FindAttachObstacle());
    }

    [Fact]
    public void A_process_of_32_bits_is_shown_and_not_worked_in()
    {
        using var other = OtherProcess.StartReady(programs.VM32);
        var vm = new KvmVM(other.FindOne());
        Assert.Equal($"vm32:{other.Id}", vm.VMName);
        Assert.False(vm.CanAttach);
        Assert.Contains("x86-64", vm.Reason, StringComparison.Ordinal);
    }

    /// <summary>A kernel parameter that is put back.</summary>
    private sealed class Sysctl : IDisposable
    {
        private readonly string _path;
        private readonly string _before;

        public Sysctl(string path, int value)
        {
            _path = path;
            _before = File.ReadAllText(path);
            File.WriteAllText(path, $"{value}");
        }

        public void Dispose() => File.WriteAllText(_path, _before);
    }
}
