namespace KvmTsc.Processes;

/// <summary>
/// Whether a process is frozen by a control group, as by <c>docker pause</c>: its threads do not run, nor come to a stop that we could ask for, until
/// somebody thaws it. cgroups(7), Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/freezer-subsystem.rst.
/// </summary>
internal static class Freezer
{
    /// <summary>The directory of the group that freezes a process; null if none is known to.</summary>
    /// <param name="processId">The process.</param>
    /// <param name="root">Where control groups are mounted.</param>
    public static string? FreezingGroup(int processId, string root = "/sys/fs/cgroup") =>
        KernelFiles.ReadText($"/proc/{processId}/cgroup") is { } groups ? FreezingGroup(groups, root) : null;

    /// <summary>The same, by what /proc/PID/cgroup says: <c>HIERARCHY:CONTROLLERS:PATH</c> in each line, none of the controllers in that of version 2.</summary>
    public static string? FreezingGroup(string groups, string root)
    {
        foreach (var line in groups.Split('\n', StringSplitOptions.RemoveEmptyEntries))
        {
            if (line.Split(':', 3) is not [_, var controllers, var path])
                continue;
            var directory = controllers switch
            {
                "" => Array.Find([root + path, $"{root}/unified{path}"], IsFrozenByVersion2),
                _ when controllers.Split(',').Contains("freezer") => Array.Find([$"{root}/{controllers}{path}"], IsFrozenByVersion1),
                _ => null,
            };
            if (directory is not null)
                return directory;
        }

        return null;
    }

    /// <summary>What thaws a group.</summary>
    public static string ThawingCommand(string group) =>
        File.Exists($"{group}/freezer.state") ? $"echo THAWED >{group}/freezer.state" : $"echo 0 >{group}/cgroup.freeze";

    /// <summary>A group is frozen where one above it is, too, and says so.</summary>
    private static bool IsFrozenByVersion2(string directory) => KernelFiles.ReadText($"{directory}/cgroup.events")?.Split('\n').Contains("frozen 1") == true;

    private static bool IsFrozenByVersion1(string directory) => KernelFiles.ReadLine($"{directory}/freezer.state") is "FROZEN" or "FREEZING";
}
