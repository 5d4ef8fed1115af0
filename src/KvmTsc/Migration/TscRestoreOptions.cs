namespace KvmTsc.Migration;

/// <summary>How clocks are restored.</summary>
/// <param name="Method">How offsets are found.</param>
/// <param name="Force">Takes unequal offsets, clocks that go backwards, and frequencies that KVM can only chase.</param>
/// <param name="Downtime">What becomes of the time during which the guest stood still.</param>
/// <param name="MaximumDowntime">The longest downtime that is restored, null for any.</param>
public sealed record TscRestoreOptions(
    TscMethod Method = TscMethod.Best, bool Force = false, TscDowntime Downtime = TscDowntime.Count, TimeSpan? MaximumDowntime = null)
{
    /// <summary>
    /// Leaves TSCs as they are, which have to be the state's: those of a guest that wrote them itself, which may differ. KVM takes no notice of that, and leaves its
    /// master clock on; from whoever writes the same, it would turn it off.
    /// </summary>
    internal bool KeepsTsc { get; init; }
}
