using KvmTsc.Tests.Discovery;

namespace KvmTsc.Tests.Attach;

/// <summary>A control group with a process in it, which can be frozen as docker pause does it.</summary>
internal sealed class FrozenGroup : IDisposable
{
    private readonly string _root = Directory.CreateTempSubdirectory("kvmtsc-cgroup").FullName;
    private readonly string _group;
    private readonly int _processId;

    public FrozenGroup(int processId)
    {
        _processId = processId;
        _group = $"{_root}/kvmtsc-test-{processId}";
        Run("mount", "-t", "cgroup2", "none", _root);
        Directory.CreateDirectory(_group);
        Join(_group);
    }

    public void Freeze() => Set("1", "frozen 1");

    public void Thaw() => Set("0", "frozen 0");

    public void Dispose()
    {
        Thaw();
        Join(_root);
        Directory.Delete(_group);
        Run("umount", _root);
        Directory.Delete(_root);
    }

    private void Join(string group) => File.WriteAllText($"{group}/cgroup.procs", $"{_processId}");

    private void Set(string value, string expected)
    {
        File.WriteAllText($"{_group}/cgroup.freeze", value);
        Until.True(() => File.ReadAllLines($"{_group}/cgroup.events"), lines => lines.Contains(expected));
    }

    private static void Run(string program, params string[] arguments)
    {
        using var process = OtherProcess.Start(program, arguments);
        process.AwaitExit();
    }
}
