using KvmTsc.Execution;

namespace KvmTsc.Torture;

/// <summary>
/// Works on what a target has instead of vCPUs where there is no KVM: terminals, whose sizes are 64 bits that ioctls set and read.
/// The batches are built as those of the engine are.
/// </summary>
internal sealed class TerminalWork(IVMExecutor executor, int count) : IWork
{
    private const nuint GetSize = 0x5413; // TIOCGWINSZ
    private const nuint SetSize = 0x5414; // TIOCSWINSZ
    private int _writes;

    public IReadOnlyList<long> Read(out double stoppedMicroseconds)
    {
        (var sizes, stoppedMicroseconds) = executor.WhileStopped(Read, CancellationToken.None);
        return sizes;
    }

    public double Write(long offset) => executor.WhileStopped(stop => Write(stop, offset), CancellationToken.None);

    private void Write(IVMStop stop, long offset)
    {
        var before = Read(stop);

        // Now and then one that fails at its end and is undone comes first.
        if (_writes++ % 4 == 3 && stop.Run(WriteBatch(before, offset, fails: true)) is { Succeeded: true } or { UndoFailures.Count: > 0 })
            throw new InvalidDataException("a batch that has to fail did not, or could not be undone");
        Require(stop.Run(WriteBatch(before, offset, fails: false)));
    }

    private IReadOnlyList<long> Read(IVMStop stop)
    {
        var batch = new IoctlBatch();
        var sizes = Enumerable.Range(0, count).Select(id => (Id: id, Slot: batch.Reserve<long>())).ToArray();
        foreach (var (id, slot) in sizes)
            batch.Add(Ioctl(id, GetSize, slot));
        Require(stop.Run(batch));
        return [.. sizes.Select(size => batch.Read(size.Slot))];
    }

    private IoctlBatch WriteBatch(IReadOnlyList<long> before, long offset, bool fails)
    {
        var batch = new IoctlBatch();
        var written = batch.Reserve(offset);
        for (var id = 0; id < count; id++)
        {
            batch.AddUndo(batch.Steps.Count + 1, Ioctl(id, SetSize, batch.Reserve(before[id])));
            batch.Add(Ioctl(id, SetSize, written));
        }

        for (var id = 0; id < count; id++)
        {
            var readBack = batch.Reserve<long>();
            batch.Add(Ioctl(id, GetSize, readBack));
            batch.Add(new BatchStep(BatchStepKind.ExpectEqual, id, 0, readBack.Offset, ArgumentIsSlot: true, written.Offset));
        }

        if (fails)
            batch.Add(new BatchStep(BatchStepKind.ExpectEqual, 0, 0, batch.Reserve(~offset).Offset, ArgumentIsSlot: true, written.Offset));
        return batch;
    }

    private static BatchStep Ioctl(int id, nuint request, Slot<long> slot) =>
        new(BatchStepKind.Ioctl, id, request, slot.Offset, ArgumentIsSlot: true);

    private static void Require(BatchOutcome outcome)
    {
        if (!outcome.Succeeded)
            throw new InvalidDataException($"step {outcome.FailedStep} of the batch failed with errno {outcome.ErrorNumber}");
    }
}
