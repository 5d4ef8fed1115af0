using System.Buffers.Binary;
using System.Runtime.InteropServices;
using KvmTsc.Interop;

namespace KvmTsc.Execution.Attach;

/// <summary>
/// A batch as the payload reads it: control block, holds, the batch's memory and steps, with addresses of the other process. What the payload
/// leaves is in one piece.
/// </summary>
internal sealed class PayloadImage
{
    private readonly AttachPreparation _preparation;
    private readonly byte[] _bytes;
    private readonly byte[] _armed;
    private readonly int _releasesAt;
    private readonly int _undoAt;
    private readonly int _undoErrorsAt;
    private readonly int _undoCount;
    private readonly int _memoryAt;
    private readonly int _readEnd;

    /// <summary>All that can be known of it before the threads stand still.</summary>
    /// <param name="preparation">Where it goes.</param>
    /// <param name="batch">The batch; what is written to its memory after this does not count.</param>
    /// <param name="holds">How many threads will be held.</param>
    public PayloadImage(AttachPreparation preparation, IoctlBatch batch, int holds)
    {
        Batch = batch;
        HoldCount = holds;
        _preparation = preparation;
        _undoCount = batch.Undo.Count;
        _releasesAt = Payload.HoldsOffset + (holds * sizeof(ulong));
        _memoryAt = _releasesAt + (holds * sizeof(ulong));
        _undoErrorsAt = _memoryAt + batch.Memory.Length;
        _readEnd = _undoErrorsAt + _undoCount;
        var stepsAt = (_readEnd + 7) & ~7;
        _undoAt = stepsAt + (batch.Steps.Count * Payload.StepSize);
        var undoEnd = _undoAt + (_undoCount * Payload.StepSize);
        _bytes = new byte[undoEnd];
        if (_bytes.Length > preparation.DataLength)
            throw new InvalidOperationException($"A batch of {_bytes.Length} bytes is larger than {preparation.DataLength}.");

        WriteControl(stepsAt, undoEnd);
        _armed = new byte[_releasesAt];
        for (var i = 0; i < holds; i++)
            Put(_armed, Payload.HoldsOffset + (i * sizeof(ulong)), preparation.Address + (ulong)Payload.HoldOffset(i));

        batch.Memory.CopyTo(_bytes.AsSpan(_memoryAt));
        foreach (var relocation in batch.Relocations)
            Put(_memoryAt + relocation.At, MemoryAddress(relocation.Target));
        for (var i = 0; i < batch.Steps.Count; i++)
            WriteStep(stepsAt + (i * Payload.StepSize), batch.Steps[i], 0);
        for (var i = 0; i < _undoCount; i++)
            WriteStep(_undoAt + (i * Payload.StepSize), batch.Undo[i].Step, batch.Undo[i].From);
    }

    /// <summary>The batch.</summary>
    public IoctlBatch Batch { get; }

    /// <summary>How many threads are held.</summary>
    public int HoldCount { get; }

    /// <summary>Fills in who is held, and who carries.</summary>
    public void Complete(IEnumerable<Tracee> held, int carrierId, ulong homeFrame)
    {
        var at = 0;
        foreach (var thread in held)
        {
            var home = thread.Home.Rip;
            Put(Payload.HoldsOffset + at, home);
            Put(_releasesAt + at, home);
            at += sizeof(ulong);
        }

        Put(Payload.Thread, (ulong)carrierId);
        Put(Payload.Frame, homeFrame);
        _bytes.AsSpan(0, Payload.ControlSize).CopyTo(_armed);
        Put(_armed, Payload.StepsEnd, DataAddress(_undoAt));
    }

    /// <summary>The data, not armed: the holds lead straight home.</summary>
    public ReadOnlySpan<byte> Bytes => _bytes;

    /// <summary>Its beginning, armed: with the steps, and the holds closed.</summary>
    public ReadOnlySpan<byte> Armed => _armed;

    /// <summary>Takes over what the payload left.</summary>
    public BatchOutcome ReadBack(ulong address)
    {
        if (!LibC.Pread(_preparation.Memory, _bytes.AsSpan(0, _readEnd), address))
            throw AttachErrors.Failed($"Reading the results in {_preparation.Target.VMName} failed.");
        _bytes.AsSpan(_memoryAt, Batch.Memory.Length).CopyTo(Batch.Memory);
        var failed = BinaryPrimitives.ReadInt32LittleEndian(_bytes.AsSpan(Payload.Failed));
        if (failed < 0)
            return BatchOutcome.Done;
        var error = BinaryPrimitives.ReadInt32LittleEndian(_bytes.AsSpan(Payload.Error));
        var undoFailures = Enumerable.Range(0, _undoCount).Where(i => _bytes[_undoErrorsAt + i] != 0).ToArray();
        return new BatchOutcome(failed, error == int.MinValue ? 0 : -error, undoFailures);
    }

    private ulong DataAddress(int offset) => _preparation.Address + Payload.DataOffset + (ulong)offset;

    private ulong MemoryAddress(long offset) => DataAddress(_memoryAt) + (ulong)offset;

    private void WriteControl(int stepsAt, int undoEnd)
    {
        Put(Payload.Steps, DataAddress(stepsAt));
        Put(Payload.StepsEnd, DataAddress(stepsAt));
        Put(Payload.Undo, DataAddress(_undoAt));
        Put(Payload.UndoEnd, DataAddress(undoEnd));
        Put(Payload.UndoErrors, DataAddress(_undoErrorsAt));
        Put(Payload.Memory, MemoryAddress(0));
        Put(Payload.Holds, DataAddress(Payload.HoldsOffset));
        Put(Payload.Releases, DataAddress(_releasesAt));
        Put(Payload.HoldCount, (ulong)HoldCount);
        Put(Payload.Process, (ulong)_preparation.ProcessInnermostId);
        Put(Payload.Signal, (ulong)_preparation.Signal);
    }

    private void WriteStep(int at, BatchStep step, int from)
    {
        var descriptor = step.VcpuId is { } id ? _preparation.Target.VcpuDescriptors[id][0] : _preparation.Target.VMDescriptor;
        MemoryMarshal.Write(_bytes.AsSpan(at), new Step(
            (ulong)step.Kind,
            (ulong)(long)descriptor,
            step.Request,
            step.ArgumentIsSlot ? MemoryAddress(step.Argument) : (ulong)step.Argument,
            step.Kind == BatchStepKind.ExpectEqual ? MemoryAddress(step.Expected) : (ulong)step.Expected,
            step.ResultSlot >= 0 ? MemoryAddress(step.ResultSlot) : DataAddress(Payload.Nowhere),
            (ulong)from));
    }

    /// <summary>A step as payload.S has it.</summary>
    [StructLayout(LayoutKind.Sequential)]
    private readonly record struct Step(ulong Kind, ulong Descriptor, ulong Request, ulong Argument, ulong Expected, ulong Result, ulong From);

    private void Put(int at, ulong value) => Put(_bytes, at, value);

    private static void Put(byte[] bytes, int at, ulong value) => BinaryPrimitives.WriteUInt64LittleEndian(bytes.AsSpan(at), value);
}
