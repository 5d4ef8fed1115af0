using System.Globalization;
using KvmTsc.Clocks;
using KvmTsc.Hosts;
using KvmTsc.Local;

namespace KvmTsc.Tests.Kernel;

/// <summary>The tests that need the kernel run one after another, so that each finds no VMs of this process but its own.</summary>
[CollectionDefinition(Name)]
public sealed class KvmCollection
{
    public const string Name = "Kvm";
}

/// <summary>This machine's <c>/dev/kvm</c>, and the VMs that a test creates on it.</summary>
internal sealed class KvmHost : IDisposable
{
    private readonly List<LocalMachine> _machines = [];

    public KvmDevice Device { get; } = KvmDevice.Open();

    public LocalMachine Create(int vcpuCount, string name = "test", uint? tscKHz = null) => Keep(LocalMachine.Create(Device, name, vcpuCount, tscKHz));

    public LocalMachine CreateWithoutClock(int vcpuCount) => Keep(LocalMachine.CreateWithoutClock(Device, "test", vcpuCount));

    /// <summary>A guest that has run and whose clocks are unlike those of a new VM.</summary>
    public LocalMachine CreateSource(int vcpuCount, uint? tscKHz = null)
    {
        var machine = Create(vcpuCount, "source", tscKHz);
        GuestTsc.SetOffsets(machine, machine.VcpuIds.ToDictionary(id => id, _ => 1L << 50), force: false, CancellationToken.None);
        GuestClock.Set(machine, 1UL << 45, null, force: false, CancellationToken.None);
        foreach (var id in machine.VcpuIds)
            machine.ReadGuestTsc(id);
        return machine;
    }

    /// <summary>What debugfs, which is not what the engine writes by, says of a vCPU.</summary>
    public static string Debugfs(LocalMachine machine, int vcpuId, string file) =>
        File.ReadAllText(Path.Combine(Assert.Single(DebugfsOf(machine)), $"vcpu{vcpuId}", file)).Trim('\0', '\n');

    public static long OffsetInDebugfs(LocalMachine machine, int vcpuId) => long.Parse(Debugfs(machine, vcpuId, "tsc-offset"), CultureInfo.InvariantCulture);

    /// <summary>
    /// The directories of debugfs, named after a thread and a descriptor, that can be a VM's of this process: the thread is one of its own, or
    /// has ended.
    /// </summary>
    public static string[] DebugfsOf(LocalMachine machine)
    {
        var descriptor = machine.Identity.Id.Split(':')[1];
        return [.. Directory.GetDirectories("/sys/kernel/debug/kvm", $"*-{descriptor}").Where(path =>
            Path.GetFileName(path).Split('-')[0] is var thread && (Directory.Exists($"/proc/self/task/{thread}") || !Directory.Exists($"/proc/{thread}")))];
    }

    /// <summary>How many descriptors of VMs and vCPUs this process has.</summary>
    public static int Descriptors => Directory.GetFiles("/proc/self/fd")
        .Count(path => new FileInfo(path).LinkTarget?.StartsWith("anon_inode:kvm-v", StringComparison.Ordinal) ?? false);

    public void Dispose()
    {
        _machines.ForEach(machine => machine.Dispose());
        Device.Dispose();
    }

    private LocalMachine Keep(LocalMachine machine)
    {
        _machines.Add(machine);
        return machine;
    }
}
