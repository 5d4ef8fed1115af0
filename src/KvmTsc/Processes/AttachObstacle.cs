namespace KvmTsc.Processes;

/// <summary>What keeps KvmTsc from working on a VM of another process.</summary>
/// <param name="ErrorId">The error that an attempt gives.</param>
/// <param name="Message">What it is.</param>
/// <param name="RecommendedAction">What the reader can do about it.</param>
public sealed record AttachObstacle(KvmErrorId ErrorId, string Message, string RecommendedAction)
{
    /// <summary>The obstacle as an error.</summary>
    public KvmException ToException() => new(ErrorId, Message, RecommendedAction);

    /// <summary>What it is and what to do about it.</summary>
    public override string ToString() => $"{Message} {RecommendedAction}";
}
