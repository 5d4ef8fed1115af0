using System.Globalization;

namespace KvmTsc.Torture;

/// <summary>The kernel's own word on a target's offsets: it needs no stop.</summary>
internal static class Debugfs
{
    public static long[] Offsets(Target target)
    {
        var directory = $"/sys/kernel/debug/kvm/{target.ProcessId}-{target.VMDescriptor}";
        return [.. Directory.GetDirectories(directory, "vcpu*")
            .OrderBy(vcpu => int.Parse(Path.GetFileName(vcpu)[4..], CultureInfo.InvariantCulture))
            .Select(vcpu => long.Parse(File.ReadAllText($"{vcpu}/tsc-offset"), CultureInfo.InvariantCulture))];
    }
}
