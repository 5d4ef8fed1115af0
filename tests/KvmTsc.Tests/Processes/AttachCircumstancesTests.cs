using System.Collections.Concurrent;
using KvmTsc.Interop;
using KvmTsc.Processes;

namespace KvmTsc.Tests.Processes;

/// <summary>Whether one process may work inside another, decided on paper. AttachRightsTests asks the kernel.</summary>
public sealed class AttachCircumstancesTests
{
    private const ulong SysPtrace = 1UL << 19;
    private const ulong SysAdmin = 1UL << 21;

    private static readonly ProcessStatus s_user = User(1000);
    private static readonly ProcessStatus s_root = new() { UserIds = [0, 0, 0, 0], GroupIds = [0, 0, 0, 0], Permitted = ulong.MaxValue, Effective = ulong.MaxValue };

    [Fact]
    public void Nothing_stands_between_processes_of_one_user() => Assert.Null(Look(s_user, s_user).FindObstacle());

    [Fact]
    public void Nothing_stands_in_roots_way() => Assert.Null((Look(s_root, s_user) with { PtraceScope = 2 }).FindObstacle());

    [Theory]
    [InlineData(1000, 1000, 1001)]
    [InlineData(1000, 1001, 1000)]
    [InlineData(1001, 1000, 1000)]
    [InlineData(0, 0, 0)]
    public void Another_user_needs_CAP_SYS_PTRACE(uint real, uint effective, uint saved)
    {
        var target = s_user with { UserIds = [real, effective, saved, 1000] };
        AssertObstacle(KvmErrorId.AttachDenied, "another user", "root", Look(s_user, target));
        Assert.Null(Look(s_user with { Effective = SysPtrace, Permitted = SysPtrace }, target).FindObstacle());
    }

    [Fact]
    public void Another_group_needs_CAP_SYS_PTRACE() =>
        AssertObstacle(KvmErrorId.AttachDenied, "another group (107)", "root", Look(s_user, s_user with { GroupIds = [107, 107, 107, 107] }));

    [Fact]
    public void A_process_with_more_capabilities_needs_CAP_SYS_PTRACE()
    {
        var target = s_user with { Permitted = 1 };
        AssertObstacle(KvmErrorId.AttachDenied, "capabilities", "root", Look(s_user, target));
        Assert.Null(Look(s_user with { Permitted = 3 }, target).FindObstacle());
        Assert.Null((Look(s_user, target) with { IsSameUserNamespace = false }).FindObstacle());
    }

    [Theory]
    [InlineData(null, false, true)]
    [InlineData(0, false, true)]
    [InlineData(1, false, false)]
    [InlineData(1, true, true)]
    [InlineData(2, true, false)]
    [InlineData(3, true, false)]
    public void Yama_forbids_what_it_says(int? scope, bool descendant, bool expected)
    {
        var circumstances = Look(s_user, s_user) with { PtraceScope = scope, IsDescendant = descendant };
        if (expected)
            Assert.Null(circumstances.FindObstacle());
        else
            AssertObstacle(KvmErrorId.AttachDenied, $"ptrace_scope is {scope}", scope == 3 ? "Boot" : "root", circumstances);
    }

    [Fact]
    public void Yama_3_forbids_root_too() => AssertObstacle(KvmErrorId.AttachDenied, "ptrace_scope is 3", "Boot", Look(s_root, s_user) with { PtraceScope = 3 });

    [Fact]
    public void A_tracer_of_the_process_or_of_a_thread_is_named()
    {
        AssertObstacle(KvmErrorId.AlreadyTraced, $"({Environment.ProcessId})", "detach", Look(s_root, s_user with { TracerId = Environment.ProcessId }));
        AssertObstacle(KvmErrorId.AlreadyTraced, "another process (2147483647)", "detach", Look(s_root, s_user) with { Threads = [s_user, s_user with { TracerId = int.MaxValue }] });
    }

    [Fact]
    public void Another_KvmTsc_is_told_from_a_debugger()
    {
        using var looked = new ManualResetEventSlim();
        using var began = new BlockingCollection<int>();
        var tracer = new Thread(() =>
        {
            began.Add(LibC.Gettid());
            looked.Wait();
        })
        {
            Name = Tracer.OfKvmTsc,
        };
        tracer.Start();
        AssertObstacle(KvmErrorId.BusyWithKvmTsc, "waits there for the VM to be resumed", "Watch-KvmClock", Look(s_root, s_user with { TracerId = began.Take(TestContext.Current.CancellationToken) }));
        looked.Set();
        tracer.Join();
    }

    [Theory]
    [InlineData(0UL, 0, "no CAP_SYS_ADMIN", "root")]
    [InlineData(SysPtrace, 0, "no CAP_SYS_ADMIN", "root")]
    [InlineData(SysAdmin, 2, "a filter itself", "container")]
    [InlineData(SysAdmin, 0, null, null)]
    public void A_seccomp_filter_needs_an_administrator_without_one(ulong effective, int ownFilter, string? message, string? action)
    {
        var own = s_user with { Effective = effective, Permitted = effective, Seccomp = ownFilter };
        foreach (var circumstances in new[] { Look(own, s_user with { Seccomp = 2 }), Look(own, s_user) with { Threads = [s_user, s_user with { Seccomp = 2 }] } })
        {
            if (message is null)
                Assert.Null(circumstances.FindObstacle());
            else
                AssertObstacle(KvmErrorId.SeccompFilter, message, action!, circumstances);
        }
    }

    [Fact]
    public void A_seccomp_filter_needs_a_kernel_that_suspends_it_and_the_hosts_administrator()
    {
        var filtered = Look(s_root, s_user with { Seccomp = 2 });
        Assert.Null(filtered.FindObstacle());
        AssertObstacle(KvmErrorId.SeccompFilter, "root of a user namespace", "the host's root", filtered with { IsInitialUserNamespace = false });
        AssertObstacle(KvmErrorId.SeccompFilter, "CONFIG_CHECKPOINT_RESTORE", "-sandbox off", filtered with { CanSuspendFilters = false });
        Assert.Null((Look(s_root, s_user) with { IsInitialUserNamespace = false, CanSuspendFilters = false }).FindObstacle());
    }

    [Fact]
    public void A_dead_process_is_gone() => AssertObstacle(KvmErrorId.ProcessGone, "has ended", "Get-KvmVM", Look(s_root, s_user with { State = 'Z' }));

    [Fact]
    public void A_program_of_32_bits_is_not_worked_in() =>
        AssertObstacle(KvmErrorId.AttachUnsupported, "x86-64", "x86-64", Look(s_root, s_user) with { IsX64 = false });

    [Fact]
    public void A_process_that_was_stopped_has_to_go_on_first() =>
        AssertObstacle(KvmErrorId.AttachUnsupported, "SIGSTOP", "kill -CONT 4711", Look(s_root, s_user with { State = 'T' }));

    [Fact]
    public void A_process_that_is_frozen_has_to_be_thawed_first() =>
        AssertObstacle(
            KvmErrorId.AttachUnsupported, "frozen by its control group (/sys/fs/cgroup/machine)", "echo 0 >/sys/fs/cgroup/machine/cgroup.freeze",
            Look(s_root, s_user) with { FreezingGroup = "/sys/fs/cgroup/machine" });

    [Theory]
    [InlineData("0::/machine/web01\n", "machine/web01/cgroup.events", "populated 1\nfrozen 1\n", "machine/web01")]
    [InlineData("0::/machine/web01\n", "machine/web01/cgroup.events", "populated 1\nfrozen 0\n", null)]
    [InlineData("0::/machine/web01\n", "machine/cgroup.events", "populated 1\nfrozen 1\n", null)] // it would say so itself
    [InlineData("1:name=systemd:/a\n0::/b\n", "unified/b/cgroup.events", "frozen 1\n", "unified/b")]
    [InlineData("9:cpu,cpuacct:/a\n5:freezer:/docker/4711\n", "freezer/docker/4711/freezer.state", "FROZEN\n", "freezer/docker/4711")]
    [InlineData("5:freezer:/docker/4711\n", "freezer/docker/4711/freezer.state", "FREEZING\n", "freezer/docker/4711")]
    [InlineData("5:freezer:/docker/4711\n", "freezer/docker/4711/freezer.state", "THAWED\n", null)]
    [InlineData("0::/../../other\n", "other/cgroup.events", "frozen 0\n", null)]
    public void A_control_group_tells_that_it_is_frozen(string groups, string file, string content, string? expected)
    {
        var root = Directory.CreateTempSubdirectory().FullName;
        try
        {
            Directory.CreateDirectory(Path.GetDirectoryName(Path.Combine(root, file))!);
            File.WriteAllText(Path.Combine(root, file), content);
            Assert.Equal(expected is null ? null : $"{root}/{expected}", Freezer.FreezingGroup(groups, root));
        }
        finally
        {
            Directory.Delete(root, recursive: true);
        }
    }

    [Fact]
    public void A_shadow_stack_is_in_the_way() =>
        AssertObstacle(KvmErrorId.AttachUnsupported, "shadow stack", "GLIBC_TUNABLES", Look(s_root, s_user) with { Threads = [s_user with { HasShadowStack = true }] });

    [Fact]
    public void Reason_and_error_say_the_same()
    {
        var obstacle = new AttachObstacle(KvmErrorId.AttachDenied, "It may not be.", "Be root.");
        Assert.Equal("It may not be. Be root.", obstacle.ToString());
        var exception = obstacle.ToException();
        Assert.Equal((obstacle.ErrorId, obstacle.Message, obstacle.RecommendedAction), (exception.ErrorId, exception.Message, exception.RecommendedAction));
    }

    private static ProcessStatus User(uint id) => new() { UserIds = [id, id, id, id], GroupIds = [id, id, id, id] };

    private static AttachCircumstances Look(ProcessStatus own, ProcessStatus target) => new() { ProcessId = 4711, Own = own, Target = target, Threads = [target], PtraceScope = 0 };

    private static void AssertObstacle(KvmErrorId id, string message, string action, AttachCircumstances circumstances)
    {
        var obstacle = circumstances.FindObstacle();
        Assert.NotNull(obstacle);
        Assert.Equal(id, obstacle.ErrorId);
        Assert.Contains("process 4711", obstacle.Message, StringComparison.OrdinalIgnoreCase);
        Assert.Contains(message, obstacle.Message, StringComparison.Ordinal);
        Assert.Contains(action, obstacle.RecommendedAction, StringComparison.Ordinal);
    }
}
