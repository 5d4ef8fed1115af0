namespace KvmTsc.Torture;

/// <summary>What procfs says of a process's threads.</summary>
internal static class ThreadStates
{
    // recvfrom and accept (with a timeout), semop, semtimedop, msgrcv, rt_sigtimedwait, io_getevents, epoll_wait, epoll_pwait, epoll_pwait2: signal(7).
    private static readonly string[] s_endedByStop = ["45", "43", "65", "220", "70", "128", "208", "232", "281", "441"];

    /// <summary>The threads that are stopped or traced.</summary>
    public static IReadOnlyList<string> Held(int processId) =>
        [.. Read(processId).Where(thread => thread.State is 't' or 'T' || thread.Tracer != "0").Select(thread => $"{thread.Id} ({thread.State}, traced by {thread.Tracer})")];

    public static string Describe(int processId) => string.Join(
        ", ", Read(processId).GroupBy(thread => (thread.State, thread.Tracer)).Select(group => $"{group.Count()} threads {group.Key.State} traced by {group.Key.Tracer}"));

    /// <summary>The threads that are in no call that a tracer's death ends with EINTR.</summary>
    public static IReadOnlyList<string> NotEndedByStop(int processId) =>
        [.. ReadFiles(processId, "syscall").Where(thread => !s_endedByStop.Contains(thread.Text.Split(' ')[0])).Select(thread => thread.Id)];

    private static IEnumerable<(string Id, char State, string Tracer)> Read(int processId)
    {
        foreach (var (id, text) in ReadFiles(processId, "status"))
        {
            var lines = text.Split('\n');
            yield return (id, Field(lines, "State")[0], Field(lines, "TracerPid"));
        }
    }

    /// <summary>A file of each thread; none of one that has ended.</summary>
    private static IEnumerable<(string Id, string Text)> ReadFiles(int processId, string name)
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
            string text;
            try
            {
                text = File.ReadAllText($"{directory}/{name}");
            }
            catch (IOException)
            {
                continue; // it ended
            }

            yield return (Path.GetFileName(directory), text);
        }
    }

    private static string Field(string[] lines, string name) =>
        Array.Find(lines, line => line.StartsWith(name + ":", StringComparison.Ordinal))?[(name.Length + 1)..].Trim() ?? "?";
}
