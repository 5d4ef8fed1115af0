namespace KvmTsc.Migration;

/// <summary>Whether the TSC that a state was captured with is the one of this host, and counted all the time since.</summary>
internal enum TscContinuity
{
    /// <summary>All clocks of the host agree that it did.</summary>
    Continuous,

    /// <summary>It is another one, or began anew, or stood still while the host was suspended.</summary>
    Broken,

    /// <summary>
    /// By the TSC much less or much more time passed than by CLOCK_REALTIME, and nothing tells which is right: the clock was set, or the host, being a virtual
    /// machine, was paused or moved itself.
    /// </summary>
    Contradicted,
}
