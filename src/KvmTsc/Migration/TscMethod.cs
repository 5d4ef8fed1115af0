namespace KvmTsc.Migration;

/// <summary>How step 6 is done.</summary>
public enum TscMethod
{
    /// <summary>
    /// Exactly where that is possible: on one boot of one host, with the same ratio, the offsets are the source's, to the tick.
    /// Elsewhere as documented.
    /// </summary>
    Best,

    /// <summary>As the kernel documents it, also where it could be exact: from kvmclock, with the TSC frequency in kHz.</summary>
    Documented,
}
