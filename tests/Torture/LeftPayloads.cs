namespace KvmTsc.Torture;

/// <summary>The resources of a target, which have to stay, but for payloads: one that is killed in the midst of its work leaves nobody who could remove it.</summary>
internal sealed class LeftPayloads
{
    /// <summary>How many were left.</summary>
    public int Count { get; private set; }

    /// <summary>What the target had when it was looked at last.</summary>
    public TargetResources Resources { get; set; } = null!;

    /// <summary>Looks after a kill.</summary>
    /// <param name="resources">What the target has now.</param>
    /// <param name="mayBeLeft">Whether that kill may have left one.</param>
    /// <returns>What is wrong, null if nothing is.</returns>
    public string? Look(TargetResources resources, bool mayBeLeft = true)
    {
        var before = Resources;
        Resources = resources;
        if (resources == before)
            return null;
        if (!mayBeLeft || !resources.IsPayloadMoreThan(before))
            return $"there were {before}, there are {resources}";
        Count++;
        return null;
    }
}
