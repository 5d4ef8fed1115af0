using KvmTsc.Discovery;
using KvmTsc.Execution.Attach;
using KvmTsc.Processes;

namespace KvmTsc.Tests.Processes;

/// <summary>What the small files of /proc/PID say.</summary>
public sealed class ProcessFilesTests
{
    private const string Fields = "1 812 812 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 4 0 987654 1048576 300";

    [Theory]
    [InlineData("812 (qemu) S ")]
    [InlineData("812 (CPU 0/KVM) S ")]
    [InlineData("812 (a) R (b)) S ")]
    [InlineData("812 () S ")]
    [InlineData("812 (two\nlines) S ")]
    public void The_name_in_stat_may_hold_anything(string beginning)
    {
        var stat = ProcessStat.Parse(beginning + Fields);
        Assert.Equal(new ProcessStat('S', 1, 4194304, 987654), stat);
        Assert.False(stat!.IsDead);
    }

    /// <summary>A process's own thread, a worker of KVM's (Linux 6.12), one of io_uring's (6.1, and since 6.4).</summary>
    [Theory]
    [InlineData("4194304", false)]
    [InlineData("4210752", true)]
    [InlineData("4194368", false)]
    [InlineData("4194320", true)]
    [InlineData("4210768", true)]
    public void Stat_tells_the_kernels_workers(string flags, bool isWorker) =>
        Assert.Equal(isWorker, ProcessStat.Parse($"812 (x) S {Fields.Replace("4194304", flags, StringComparison.Ordinal)}")!.IsKernelWorker);

    [Theory]
    [InlineData("")]
    [InlineData("812 (qemu)")]
    [InlineData("812 (qemu) S 1 812")]
    [InlineData("no stat")]
    public void What_is_no_stat_is_none(string line) => Assert.Null(ProcessStat.Parse(line));

    [Theory]
    [InlineData('Z', true)]
    [InlineData('X', true)]
    [InlineData('t', false)]
    [InlineData('D', false)]
    public void Stat_tells_the_dead(char state, bool dead) => Assert.Equal(dead, ProcessStat.Parse($"812 (x) {state} {Fields}")!.IsDead);

    [Fact]
    public void Stat_of_this_process_is_read()
    {
        var stat = ProcessStat.Read($"/proc/{Environment.ProcessId}");
        Assert.NotNull(stat);
        Assert.True(stat.StartTime > 0);
        Assert.True(stat.ParentId > 0);
        Assert.Null(ProcessStat.Read("/proc/0"));
    }

    [Fact]
    public void Status_is_understood()
    {
        var status = Status(
            "Name:\tState: Z\nUmask:\t0022\nState:\tt (tracing stop)\nTgid:\t812\nPid:\t812\nTracerPid:\t4711\n"
            + "Uid:\t1000\t1001\t1002\t1003\nGid:\t107\t108\t109\t110\nCapPrm:\t0000000000080000\nCapEff:\t000001ffffffffff\nSeccomp:\t2\nx86_Thread_features:\twrss shstk \n");
        Assert.Equal('t', status.State);
        Assert.Equal(812, status.ProcessId);
        Assert.Equal(4711, status.TracerId);
        Assert.Equal([1000U, 1001, 1002, 1003], status.UserIds);
        Assert.Equal([107U, 108, 109, 110], status.GroupIds);
        Assert.Equal(0x80000UL, status.Permitted);
        Assert.Equal(0x1FFFFFFFFFFUL, status.Effective);
        Assert.True(status.IsFiltered);
        Assert.True(status.HasShadowStack);
        Assert.True(status.MayTraceAny);
        Assert.True(status.IsAdministrator);
        Assert.False(status.IsDead);
    }

    [Theory]
    [InlineData("0000000000080000", true, false)]
    [InlineData("0000000000200000", false, true)]
    [InlineData("ffffffffffd7ffff", false, false)]
    public void Capabilities_are_told_apart(string effective, bool mayTrace, bool administers)
    {
        var status = Status($"CapEff:\t{effective}");
        Assert.Equal(mayTrace, status.MayTraceAny);
        Assert.Equal(administers, status.IsAdministrator);
    }

    private static ProcessStatus Status(string text) => ProcessStatus.Parse(System.Text.Encoding.UTF8.GetBytes(text));

    [Theory]
    [InlineData("running", true, null)]
    [InlineData("16 0x9 0xae80 0x0 0x0 0x5598b5047cb0 0xff 0x7f6a83dfe530 0x7f6a8d631d6b", false, 9)]
    [InlineData("16 0x1a 0xae80 0x0 0x0 0x0 0x0 0x0 0x0", false, 26)]
    [InlineData("16 0x9 0xae04 0x0 0x0 0x0 0x0 0x0 0x0", false, null)]
    [InlineData("202 0x9 0xae80 0x0 0x0 0x0 0x0 0x0 0x0", false, null)]
    [InlineData("-1 0x7fff 0x55aa", false, null)]
    [InlineData("", false, null)]
    public void A_system_call_is_KVM_RUN_on_a_descriptor_or_is_not(string line, bool running, int? descriptor)
    {
        var call = SystemCall.Parse(line);
        Assert.Equal((running, descriptor), (call.IsRunning, call.RunDescriptor));
    }

    [Theory]
    [InlineData("0 0x0 0x7ffd 0x1 0x0 0x0 0x0 0x7ffd 0x7f6a", 0)] // read
    [InlineData("202 0x55aa 0x80 0x0 0x0 0x0 0x0 0x7ffd 0x7f6a", 0)] // futex
    [InlineData("202 0x55aa 0x189 0x0 0x7ffd 0x0 0xffffffff 0x7ffd 0x7f6a", null)] // futex with a timeout
    [InlineData("230 0x0 0x0 0x7ffd 0x7ffd 0x0 0x0 0x7ffd 0x7f6a", null)] // clock_nanosleep
    [InlineData("7 0x7ffd 0x1 0xffffffff 0x0 0x0 0x0 0x7ffd 0x7f6a", null)] // poll
    [InlineData("271 0x55aa 0x4 0x0 0x0 0x8 0x0 0x7ffd 0x7f6a", 2)] // ppoll
    [InlineData("232 0x4 0x7ffd 0x1 0xffffffff 0x0 0x0 0x7ffd 0x7f6a", 3)] // epoll_wait
    [InlineData("running", 1)]
    [InlineData("-1 0x7fff 0x55aa", 1)]
    public void A_thread_lends_itself_best_where_a_stop_shows_least(string line, int? rank) =>
        Assert.Equal(rank, Interruption.LenderRank(SystemCall.Parse(line)));

    [Theory]
    [InlineData("anon_inode:kvm-vm", true, null)]
    [InlineData("anon_inode:kvm-vcpu:0", true, 0)]
    [InlineData("anon_inode:kvm-vcpu:4095", true, 4095)]
    [InlineData("anon_inode:kvm-vm2", false, null)]
    [InlineData("anon_inode:kvm-vcpu-stats:0", false, null)]
    [InlineData("anon_inode:kvm-vcpu:", false, null)]
    [InlineData("anon_inode:kvm-vcpu:1x", false, null)]
    [InlineData("anon_inode:[eventfd]", false, null)]
    [InlineData("/tmp/anon_inode:kvm-vm", false, null)]
    [InlineData("", false, null)]
    public void A_link_is_one_of_KVMs_or_is_not(string link, bool found, int? vcpuId)
    {
        var descriptor = KvmDescriptor.Parse(7, System.Text.Encoding.UTF8.GetBytes(link));
        Assert.Equal(found ? new KvmDescriptor(7, vcpuId) : null, descriptor);
        Assert.True(link.Length < KvmDescriptor.LinkLength);
    }

    [Theory]
    [InlineData(2, 62, true)]
    [InlineData(1, 3, false)]
    [InlineData(1, 62, false)]
    [InlineData(2, 183, false)]
    public void A_program_is_x86_64_or_is_not(byte @class, byte machine, bool expected)
    {
        byte[] header = [0x7F, (byte)'E', (byte)'L', (byte)'F', @class, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, machine, 0];
        Assert.Equal(expected, ElfHeader.IsX64(header));
    }

    [Fact]
    public void A_program_file_is_looked_at()
    {
        Assert.True(ElfHeader.IsX64("/proc/self/exe"));
        Assert.Null(ElfHeader.IsX64("/proc/0/exe"));
        Assert.False(ElfHeader.IsX64("/dev/null"));
    }
}
