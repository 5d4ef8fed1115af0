namespace KvmTsc.Migration;

/// <summary>What becomes of the time during which a guest stood still, in both of its clocks alike.</summary>
public enum TscDowntime
{
    /// <summary>It has passed for the guest, as the kernel documents it: its clocks go on with the time of the world.</summary>
    Count,

    /// <summary>It has not: its clocks go on from where they stood, and its wall clock is behind until it is set.</summary>
    Exclude,
}
