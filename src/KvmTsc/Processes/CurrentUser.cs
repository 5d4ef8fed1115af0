namespace KvmTsc.Processes;

/// <summary>Whoever runs this.</summary>
internal static class CurrentUser
{
    /// <summary>The name, for messages; in a container a user may have none.</summary>
    public static string Name => Environment.UserName is { Length: > 0 } name ? name : "This user";
}
