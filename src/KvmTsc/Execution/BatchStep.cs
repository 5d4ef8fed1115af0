namespace KvmTsc.Execution;

/// <summary>What a step of a batch does.</summary>
public enum BatchStepKind
{
    /// <summary>Issues an ioctl.</summary>
    Ioctl,

    /// <summary>Computes an <see cref="OffsetResolution"/>, step 6 of the kernel's algorithm.</summary>
    ResolveOffset,

    /// <summary>Fails unless the 32 bits at <see cref="BatchStep.Argument"/> have all bits of <see cref="BatchStep.Expected"/>.</summary>
    ExpectBits,

    /// <summary>Fails unless the 64 bits at <see cref="BatchStep.Argument"/> and at <see cref="BatchStep.Expected"/> are equal.</summary>
    ExpectEqual,

    /// <summary>Issues an ioctl that may fail; its result, or the negated errno, goes where results go.</summary>
    Attempt,

    /// <summary>Computes a <see cref="ClockCorrection"/>.</summary>
    CorrectClock,
}

/// <summary>One step of a batch: flat data, so that it can run in another process as well.</summary>
/// <param name="Kind">What it does.</param>
/// <param name="VcpuId">The vCPU whose descriptor takes the ioctl, null for the VM's.</param>
/// <param name="Request">The ioctl's request number.</param>
/// <param name="Argument">The ioctl's argument: a number, or an offset into the batch's memory.</param>
/// <param name="ArgumentIsSlot">Whether <paramref name="Argument"/> is an offset into the batch's memory.</param>
/// <param name="Expected">What an expectation compares with.</param>
/// <param name="ResultSlot">Where the ioctl's result goes as an int, -1 for nowhere.</param>
public sealed record BatchStep(
    BatchStepKind Kind,
    int? VcpuId,
    nuint Request,
    long Argument,
    bool ArgumentIsSlot,
    long Expected = 0,
    int ResultSlot = -1);
