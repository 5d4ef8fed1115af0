using System.Runtime.InteropServices;

namespace KvmTsc;

/// <summary>
/// Something that KvmTsc was asked for did not happen. The message says what and why, <see cref="RecommendedAction"/> what to do.
/// </summary>
public sealed class KvmException : Exception
{
    /// <summary>Creates the error.</summary>
    /// <param name="errorId">What went wrong.</param>
    /// <param name="message">What happened, and why.</param>
    /// <param name="recommendedAction">What the reader can do about it.</param>
    /// <param name="innerException">What led to it.</param>
    public KvmException(KvmErrorId errorId, string message, string recommendedAction, Exception? innerException = null)
        : base(message, innerException)
    {
        ErrorId = errorId;
        RecommendedAction = recommendedAction;
    }

    /// <summary>What went wrong.</summary>
    public KvmErrorId ErrorId { get; }

    /// <summary>What the reader can do about it.</summary>
    public string RecommendedAction { get; }

    /// <summary>The vCPU it is about, if it is about one.</summary>
    public int? VcpuId { get; init; }

    /// <summary>The host on which it happened, if that is another one.</summary>
    public string? ComputerName { get; init; }

    /// <summary>The system's error number, 0 if there was none.</summary>
    public int ErrorNumber { get; init; }

    internal static KvmException FromErrno(string what, int errno) => new(
        KvmErrorId.SystemCallFailed,
        $"{what} failed: {Marshal.GetPInvokeErrorMessage(errno)} (errno {errno}).",
        "See the kernel's log (dmesg) and this process's limits (ulimit -a).")
    {
        ErrorNumber = errno,
    };
}
