using KvmTsc.Machines;

namespace KvmTsc.Tests.Machines;

public sealed class VcpuRangeTests
{
    [Theory]
    [InlineData(new int[0], "")]
    [InlineData(new[] { 0 }, "0")]
    [InlineData(new[] { 0, 1 }, "0-1")]
    [InlineData(new[] { 0, 2 }, "0, 2")]
    [InlineData(new[] { 0, 1, 2, 3, 6 }, "0-3, 6")]
    [InlineData(new[] { 1, 3, 4, 5, 9, 10 }, "1, 3-5, 9-10")]
    public void Ids_are_written_as_ranges(int[] ids, string range) => Assert.Equal(range, VcpuRange.Format(ids));
}
