using KvmTsc.Watching;

namespace KvmTsc.Tests.Watching;

public sealed class TraceEventTests
{
    [Theory]
    [InlineData(" qemu-system-x86-141     [000] d..1.  57247045776: kvm_update_master_clock: masterclock 1 hostclock tsc offsetmatched 1", "MasterClock", 57247045776, 141)]
    [InlineData(" qemu-system-x86-145     [003] d..1. 18446744073709551615: kvm_write_tsc_offset: vcpu=0 prev=18446744056790522217 next=1", "Offset", ulong.MaxValue, 145)]
    [InlineData("        CPU 1/KVM-147     [000] d..2.  57247045777: kvm_track_tsc: vcpu_id 1 masterclock 1 offsetmatched 0 nr_online 2 hostclock tsc", "Tracked", 57247045777, 147)]
    [InlineData("        CPU 0/KVM-146     [000] .....  28528231875: kvm_userspace_exit: reason restart (4)", "Exit", 28528231875, 146)]
    [InlineData(" a-1 [000] x: kvm-9-4711  [012] .N.2.  5: kvm_userspace_exit: reason restart (4)", "Exit", 5, 4711)] // a task may be called anything
    [InlineData("           <...>-146     (    141) [000] .....  7: kvm_userspace_exit: reason restart (4)", "Exit", 7, 146)] // with the option record-tgid
    [InlineData("CPU:3 [LOST 512 EVENTS]", "Lost", 0, 0)]
    public void A_line_is_understood(string line, string kind, ulong hostTsc, int threadId) =>
        Assert.Equal(new TraceEvent(Enum.Parse<TraceEventKind>(kind), hostTsc, threadId), TraceEvent.Parse(line));

    [Theory]
    [InlineData("")]
    [InlineData("# tracer: nop")]
    [InlineData(" qemu-system-x86-141     [000] d..1.  57247045776: kvm_entry: vcpu 0")]
    [InlineData(" qemu-system-x86-141     [000] d..1.  57.247045: kvm_update_master_clock: masterclock 1")] // another clock
    public void What_is_none_that_counts_is_left_out(string line) => Assert.Null(TraceEvent.Parse(line));
}
