namespace KvmTsc.Torture;

/// <summary>What is done the first time only.</summary>
internal static class Once
{
    public static Action Of(Action action)
    {
        var isDone = false;
        return () =>
        {
            if (!isDone)
                action();
            isDone = true;
        };
    }
}
