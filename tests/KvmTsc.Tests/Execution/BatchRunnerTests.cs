using KvmTsc.Arithmetic;
using KvmTsc.Clocks;
using KvmTsc.Execution;
using KvmTsc.Interop;

namespace KvmTsc.Tests.Execution;

public sealed class BatchRunnerTests
{
    private static readonly BatchStep s_one = Step(1);
    private static readonly BatchStep s_two = Step(2);

    [Fact]
    public void Steps_run_in_order_with_their_arguments()
    {
        var batch = new IoctlBatch();
        batch.Add(s_one);
        batch.Add(s_two with { VcpuId = null });
        var issued = new List<(int?, nuint, nint)>();
        var outcome = BatchRunner.Run(batch, (vcpuId, request, argument) =>
        {
            issued.Add((vcpuId, request, argument));
            return 0;
        });
        Assert.Equal(BatchOutcome.Done, outcome);
        Assert.Equal([(1, 0x100u, 1), (null, 0x100u, 2)], issued);
    }

    [Fact]
    public void A_result_goes_to_its_slot()
    {
        var batch = new IoctlBatch();
        var kHz = batch.GetTscKHz(0);
        Assert.True(BatchRunner.Run(batch, (_, _, _) => 2_345_678).Succeeded);
        Assert.Equal(2_345_678, batch.Read(kHz));
    }

    [Fact]
    public void The_first_failure_ends_the_batch()
    {
        var batch = new IoctlBatch();
        batch.Add(s_one);
        batch.Add(s_two);
        batch.Add(s_one);
        var count = 0;
        var outcome = BatchRunner.Run(batch, (_, _, argument) => ++count == 2 ? -22 : 0);
        Assert.Equal((1, 22), (outcome.FailedStep, outcome.ErrorNumber));
        Assert.Equal(2, count);
    }

    [Fact]
    public void A_failed_ioctl_leaves_its_result_slot_alone()
    {
        var batch = new IoctlBatch();
        var kHz = batch.GetTscKHz(0);
        batch.Write(kHz, 77);
        Assert.False(BatchRunner.Run(batch, (_, _, _) => -5).Succeeded);
        Assert.Equal(77, batch.Read(kHz));
    }

    [Theory]
    [InlineData(7)]
    [InlineData(-22)]
    public void An_attempt_may_fail_and_leaves_its_result_or_the_negated_errno(int result)
    {
        var batch = new IoctlBatch();
        var slot = batch.Reserve<int>();
        batch.Add(s_one with { Kind = BatchStepKind.Attempt, ResultSlot = slot.Offset });
        batch.Add(s_two);
        batch.AddUndo(0, Step(11));
        var issued = new List<nint>();
        var outcome = BatchRunner.Run(batch, (_, _, argument) =>
        {
            issued.Add(argument);
            return argument == 1 ? result : 0;
        });
        Assert.True(outcome.Succeeded);
        Assert.Equal([1, 2], issued);
        Assert.Equal(result, batch.Read(slot));
    }

    [Theory]
    [InlineData(0, new int[0])]
    [InlineData(1, new[] { 11 })]
    [InlineData(2, new[] { 11, 12 })]
    public void Only_what_was_reached_is_undone_in_the_order_given(int failingStep, int[] undone)
    {
        var batch = new IoctlBatch();
        batch.Add(Step(0));
        batch.Add(Step(1));
        batch.Add(Step(2));
        batch.AddUndo(1, Step(11));
        batch.AddUndo(2, Step(12));
        batch.AddUndo(3, Step(13));
        var issued = new List<int>();
        var outcome = BatchRunner.Run(batch, (_, _, argument) =>
        {
            if (argument > 10)
                issued.Add((int)argument);
            return argument == failingStep ? -1 : 0;
        });
        Assert.Equal(undone, issued);
        Assert.Empty(outcome.UndoFailures);
    }

    [Fact]
    public void All_of_the_undoing_is_tried_and_what_failed_is_named()
    {
        var batch = new IoctlBatch();
        batch.Add(Step(0));
        batch.AddUndo(0, Step(11));
        batch.AddUndo(0, Step(12));
        batch.AddUndo(0, Step(13));
        var issued = new List<int>();
        var outcome = BatchRunner.Run(batch, (_, _, argument) =>
        {
            issued.Add((int)argument);
            return argument is 0 or 12 ? -5 : 0;
        });
        Assert.Equal([0, 11, 12, 13], issued);
        Assert.Equal([1], outcome.UndoFailures);
    }

    [Fact]
    public void A_success_undoes_nothing()
    {
        var batch = new IoctlBatch();
        batch.Add(Step(0));
        batch.AddUndo(0, Step(11));
        var issued = 0;
        BatchRunner.Run(batch, (_, _, _) => issued++);
        Assert.Equal(1, issued);
    }

    [Theory]
    [InlineData(0xCu, true)]
    [InlineData(0xEu, true)]
    [InlineData(0x8u, false)]
    [InlineData(0x4u, false)]
    [InlineData(0x2u, false)]
    public void A_clock_without_host_TSC_or_realtime_ends_the_batch_without_an_errno(uint flags, bool succeeds)
    {
        var batch = new IoctlBatch();
        var clock = batch.Reserve(new KvmClockData { Flags = flags });
        batch.ExpectTriple(clock);
        var outcome = BatchRunner.Run(batch, (_, _, _) => throw new InvalidOperationException("no ioctl"));
        Assert.Equal(succeeds, outcome.Succeeded);
        Assert.Equal(0, outcome.ErrorNumber);
    }

    [Theory]
    [InlineData(5, 5, true)]
    [InlineData(5, 6, false)]
    [InlineData(0x1_0000_0005, 5, false)]
    public void Unequal_values_end_the_batch_without_an_errno(ulong value, ulong expected, bool succeeds)
    {
        var batch = new IoctlBatch();
        batch.ExpectEqual(3, batch.Reserve(value), batch.Reserve(expected));
        var outcome = BatchRunner.Run(batch, (_, _, _) => throw new InvalidOperationException("no ioctl"));
        Assert.Equal((succeeds, 0), (outcome.Succeeded, outcome.ErrorNumber));
    }

    [Fact]
    public void An_offset_is_resolved_from_a_reading_of_the_same_batch()
    {
        var batch = new IoctlBatch();
        var clock = batch.Reserve<KvmClockData>();
        var ratio = new TscRatio(3UL << 47, 48);
        var offset = batch.ResolveOffset(clock, 1_000_000, 500, 2_000_000, ratio);
        batch.Write(clock, new KvmClockData { Clock = 10_500, HostTsc = 1000 });
        Assert.True(BatchRunner.Run(batch, (_, _, _) => throw new InvalidOperationException("no ioctl")).Succeeded);
        Assert.Equal(1_000_000ul + 20_000 - 1500, batch.Read(offset));
    }

    /// <summary>The guest TSC is the scaled host's, and an offset.</summary>
    [Fact]
    public void The_same_from_a_guest_TSC_that_was_read_beside_it()
    {
        var batch = new IoctlBatch();
        var clock = batch.Reserve<KvmClockData>();
        var tsc = batch.Reserve<KvmMsr>();
        var offset = batch.ResolveOffset(clock, (tsc, 7_000_000), 1_000_000, 500, 2_000_000);
        batch.Write(clock, new KvmClockData { Clock = 10_500, HostTsc = 99 });
        batch.Write(tsc, new KvmMsr { Data = 7_001_500 });
        Assert.True(BatchRunner.Run(batch, (_, _, _) => throw new InvalidOperationException("no ioctl")).Succeeded);
        Assert.Equal(1_000_000ul + 20_000 - 1500, batch.Read(offset));
    }

    [Theory]
    [InlineData(10_500, 1_003)]
    [InlineData(10_100, 1_403)]
    public void A_clock_is_corrected_by_what_a_reading_of_the_same_batch_is_off(ulong read, ulong corrected)
    {
        var batch = new IoctlBatch();
        var clock = batch.Reserve<KvmClockData>();
        var value = batch.Reserve(new KvmClockData { Clock = 1_000 });
        batch.CorrectClock(clock, new KvmClockData { Clock = 10_000, Realtime = 4_000, HostTsc = 9 }, null, value);
        batch.Write(clock, new KvmClockData { Clock = read, Realtime = 4_503, HostTsc = 77 });
        Assert.True(BatchRunner.Run(batch, (_, _, _) => throw new InvalidOperationException("no ioctl")).Succeeded);
        Assert.Equal(corrected, batch.Read(value).Clock);
    }

    private static BatchStep Step(int argument) => new(BatchStepKind.Ioctl, 1, 0x100, argument, ArgumentIsSlot: false);
}
