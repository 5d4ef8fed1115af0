namespace KvmTsc.Torture;

/// <summary>What procfs says of a process's threads.</summary>
internal static class ThreadStates
{
    /// <summary>The threads that are stopped or traced.</summary>
    public static IReadOnlyList<string> Held(int processId) =>
        [.. Read(processId).Where(thread => thread.State is 't' or 'T' || thread.Tracer != "0").Select(thread => $"{thread.Id} ({thread.State}, traced by {thread.Tracer})")];

    public static string Describe(int processId) => string.Join(
        ", ", Read(processId).GroupBy(thread => (thread.State, thread.Tracer)).Select(group => $"{group.Count()} threads {group.Key.State} traced by {group.Key.Tracer}"));

    private static IEnumerable<(string Id, char State, string Tracer)> Read(int processId)
    {
        string[] directories;
        try
        {
            directories = Directory.GetDirectories($"/proc/{processId}/task");
        }
        catch (IOException)
        {
            yield break;
        }

        foreach (var directory in directories)
        {
            string[] lines;
            try
            {
                lines = File.ReadAllLines($"{directory}/status");
            }
            catch (IOException)
            {
                continue; // it ended
            }

            yield return (Path.GetFileName(directory), Field(lines, "State")[0], Field(lines, "TracerPid"));
        }
    }

    private static string Field(string[] lines, string name) =>
        Array.Find(lines, line => line.StartsWith(name + ":", StringComparison.Ordinal))?[(name.Length + 1)..].Trim() ?? "?";
}
