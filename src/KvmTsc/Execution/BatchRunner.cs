using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using KvmTsc.Arithmetic;
using KvmTsc.Interop;

namespace KvmTsc.Execution;

/// <summary>Runs batches in this process, over any function that issues one ioctl.</summary>
public static unsafe class BatchRunner
{
    /// <summary>Issues one ioctl.</summary>
    /// <param name="vcpuId">The vCPU, null for the VM.</param>
    /// <param name="request">The request number.</param>
    /// <param name="argument">A number or an address.</param>
    /// <returns>The result, or the negated errno.</returns>
    public delegate int Issue(int? vcpuId, nuint request, nint argument);

    /// <summary>Runs a batch to its end or to its first failure, and undoes it then.</summary>
    public static BatchOutcome Run(IoctlBatch batch, Issue issue)
    {
        // Pinned by its batch, which this frame keeps alive.
        var memory = (nint)Unsafe.AsPointer(ref MemoryMarshal.GetReference(batch.Memory));
        foreach (var relocation in batch.Relocations)
            *(nint*)(memory + relocation.At) = memory + relocation.Target;

        for (var i = 0; i < batch.Steps.Count; i++)
        {
            var result = Do(batch.Steps[i], memory, issue);
            if (result < 0)
                return new BatchOutcome(i, result == Unexpected ? 0 : -result, Undo(batch, i, memory, issue));
        }

        GC.KeepAlive(batch);
        return BatchOutcome.Done;
    }

    private const int Unexpected = int.MinValue;

    private static int Do(BatchStep step, nint memory, Issue issue)
    {
        switch (step.Kind)
        {
            case BatchStepKind.Ioctl or BatchStepKind.Attempt:
                var result = issue(step.VcpuId, step.Request, step.ArgumentIsSlot ? memory + (nint)step.Argument : (nint)step.Argument);
                if (result < 0 && step.Kind == BatchStepKind.Ioctl)
                    return result;
                if (step.ResultSlot >= 0)
                    *(int*)(memory + step.ResultSlot) = result;
                return 0;
            case BatchStepKind.ResolveOffset:
                Resolve((OffsetResolution*)(memory + (nint)step.Argument), memory);
                return 0;
            case BatchStepKind.CorrectClock:
                Correct((ClockCorrection*)(memory + (nint)step.Argument), memory);
                return 0;
            case BatchStepKind.ExpectBits:
                return (*(uint*)(memory + (nint)step.Argument) & (uint)step.Expected) == (uint)step.Expected ? 0 : Unexpected;
            case BatchStepKind.ExpectEqual:
                return *(ulong*)(memory + (nint)step.Argument) == *(ulong*)(memory + (nint)step.Expected) ? 0 : Unexpected;
            default:
                throw new InvalidOperationException($"A batch cannot do {step.Kind}.");
        }
    }

    private static void Resolve(OffsetResolution* resolution, nint memory)
    {
        var clock = *(ulong*)(memory + resolution->ClockSlot);
        var ratio = new TscRatio(resolution->Ratio, (int)resolution->FractionBits);
        *(ulong*)(memory + resolution->ResultSlot) = TscArithmetic.ResolveOffset(
            resolution->SourceGuestTsc, resolution->SourceClock, *(ulong*)(memory + resolution->TscSlot), clock, resolution->KHz, ratio);
    }

    private static void Correct(ClockCorrection* correction, nint memory)
    {
        var elapsed = *(ulong*)(memory + correction->InstantSlot) - correction->SourceInstant;
        var expected = correction->SourceClock + TscArithmetic.Scale(elapsed, correction->Multiplier, (int)correction->FractionBits);
        *(ulong*)(memory + correction->ResultSlot) += expected - *(ulong*)(memory + correction->ClockSlot);
    }

    private static List<int> Undo(IoctlBatch batch, int failed, nint memory, Issue issue)
    {
        var failures = new List<int>();
        for (var i = 0; i < batch.Undo.Count; i++)
        {
            if (failed >= batch.Undo[i].From && Do(batch.Undo[i].Step, memory, issue) < 0)
                failures.Add(i);
        }

        return failures;
    }
}
