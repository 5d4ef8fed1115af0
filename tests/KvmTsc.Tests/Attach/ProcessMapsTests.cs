using KvmTsc.Execution.Attach;

namespace KvmTsc.Tests.Attach;

public sealed class ProcessMapsTests
{
    private static readonly ProcessMaps s_maps = ProcessMaps.Of(
    [
        "55d0c0000000-55d0c0001000 r-xp 00000000 fe:00 4711                       /usr/bin/qemu-system-x86_64",
        "7f0000000000-7f0000021000 rw-p 00000000 00:00 0 ",
        "7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0                          [stack]",
    ]);

    [Theory]
    [InlineData(0x7f0000000000, 0x7f0000021000, true)]
    [InlineData(0x7f0000000010, 0x7f0000000020, true)]
    [InlineData(0x7f0000020000, 0x7f0000021001, false)]
    [InlineData(0x55d0c0000000, 0x55d0c0000010, false)] // code
    [InlineData(0x7f0000000020, 0x7f0000000020, false)]
    [InlineData(0xFFFFFFFFFFFFF000, 0, false)] // below the stack pointer of a worker of the kernel's
    public void A_stack_is_where_a_range_can_be_written(ulong start, ulong end, bool expected) => Assert.Equal(expected, s_maps.IsWritable(start, end));
}
