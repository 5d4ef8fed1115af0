using System.Runtime.InteropServices;
using KvmTsc.Clocks;
using KvmTsc.Execution;
using KvmTsc.Interop;

namespace KvmTsc.Tests.Execution;

public sealed unsafe class IoctlBatchTests
{
    [StructLayout(LayoutKind.Sequential)]
    private struct Pair
    {
        public ulong First;
        public ushort Second;
    }

    [Fact]
    public void Slots_are_aligned_and_do_not_overlap()
    {
        var batch = new IoctlBatch();
        var first = batch.Reserve((byte)0xAA);
        var second = batch.Reserve<uint>(0xBBBBBBBB);
        var third = batch.Reserve(new Pair { First = ulong.MaxValue, Second = 0xCCCC });
        var fourth = batch.Reserve(0xDDDDDDDDDDDDDDDDul);
        Assert.All((int[])[first.Offset, second.Offset, third.Offset, fourth.Offset], offset => Assert.Equal(0, offset % 8));
        Assert.Equal(0xAA, batch.Read(first));
        Assert.Equal(0xBBBBBBBBu, batch.Read(second));
        Assert.Equal((ulong.MaxValue, (ushort)0xCCCC), (batch.Read(third).First, batch.Read(third).Second));
        Assert.Equal(0xDDDDDDDDDDDDDDDDul, batch.Read(fourth));
    }

    [Fact]
    public void What_was_written_survives_the_growth_of_the_memory()
    {
        var batch = new IoctlBatch();
        var slots = Enumerable.Range(0, 10_000).Select(i => batch.Reserve((ulong)i * 0x9E3779B97F4A7C15)).ToArray();
        Assert.All(slots.Select((slot, i) => (slot, i)), pair => Assert.Equal((ulong)pair.i * 0x9E3779B97F4A7C15, batch.Read(pair.slot)));
        Assert.Equal(80_000, batch.Memory.Length);
    }

    [Fact]
    public void A_slot_larger_than_the_memory_doubled_fits()
    {
        var batch = new IoctlBatch();
        var small = batch.Reserve(5ul);
        var large = batch.Reserve(new Large());
        var last = batch.Reserve(7ul);
        Assert.Equal(5ul, batch.Read(small));
        Assert.Equal(7ul, batch.Read(last));
        Assert.Equal(large.Offset + sizeof(Large), last.Offset);
    }

    [Fact]
    public void New_slots_are_zero_where_nothing_else_is_asked_for()
    {
        var batch = new IoctlBatch();
        for (var i = 0; i < 300; i++)
            Assert.Equal(0ul, batch.Read(batch.Reserve<KvmClockData>()).Clock);
    }

    [Fact]
    public void Relocations_hold_addresses_of_the_memory_as_it_is_when_the_batch_runs()
    {
        var batch = new IoctlBatch();
        var ids = Enumerable.Range(0, 500).ToArray();
        var slots = ids.Select(batch.GetOffset).ToArray();
        var moved = batch.Reserve(0ul);

        // The kernel's part: each attribute's address is where the vCPU's value goes.
        var outcome = BatchRunner.Run(batch, (vcpuId, request, argument) =>
        {
            Assert.Equal(KvmRequest.GetDeviceAttr, request);
            var attribute = (KvmDeviceAttr*)argument;
            *(ulong*)attribute->Address = (ulong)vcpuId!.Value + 0xABC00000;
            return 0;
        });
        Assert.True(outcome.Succeeded);
        Assert.All(ids, id => Assert.Equal((ulong)id + 0xABC00000, batch.Read(slots[id])));
        Assert.Equal(0ul, batch.Read(moved));
    }

    [Fact]
    public void A_batch_can_run_again_after_it_grew()
    {
        var batch = new IoctlBatch();
        var slot = batch.GetOffset(3);
        BatchRunner.Issue kernel = (vcpuId, _, argument) =>
        {
            *(ulong*)((KvmDeviceAttr*)argument)->Address += 1;
            return 0;
        };
        Assert.True(BatchRunner.Run(batch, kernel).Succeeded);
        for (var i = 0; i < 1000; i++)
            batch.Reserve(0ul);
        Assert.True(BatchRunner.Run(batch, kernel).Succeeded);
        Assert.Equal(2ul, batch.Read(slot));
    }

    [Fact]
    public void Memory_stays_where_it_is_during_a_garbage_collection()
    {
        var batch = new IoctlBatch();
        var clock = batch.GetClock();
        var outcome = BatchRunner.Run(batch, (_, _, argument) =>
        {
            GC.Collect(2, GCCollectionMode.Forced, blocking: true, compacting: true);
            ((KvmClockData*)argument)->Clock = 42;
            return 0;
        });
        Assert.True(outcome.Succeeded);
        Assert.Equal(42ul, batch.Read(clock).Clock);
    }

    [System.Runtime.CompilerServices.InlineArray(5000)]
    private struct Large
    {
        private byte _first;
    }
}
