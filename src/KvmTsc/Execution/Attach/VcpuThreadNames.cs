using System.Globalization;
using System.Text.RegularExpressions;
using KvmTsc.Processes;

namespace KvmTsc.Execution.Attach;

/// <summary>
/// What VMMs call the threads that run vCPUs. That is a hint which threads will, before they do, and no more: whoever goes by it has to see to it that no
/// other did.
/// </summary>
internal static partial class VcpuThreadNames
{
    /// <summary>The threads of a process that are named so, if each vCPU has one; null else.</summary>
    /// <param name="processId">The process.</param>
    /// <param name="threadIds">Its threads.</param>
    /// <param name="vcpuCount">How many vCPUs its VM has.</param>
    public static IReadOnlyList<int>? Find(int processId, IEnumerable<int> threadIds, int vcpuCount)
    {
        var named = new Dictionary<int, int>();
        foreach (var id in threadIds)
        {
            if (KernelFiles.ReadLine($"/proc/{processId}/task/{id}/comm") is not { } name || NumberIn(name) is not { } number)
                continue;
            if (!named.TryAdd(number, id))
                return null;
        }

        return named.Count == vcpuCount ? [.. named.Values] : null;
    }

    /// <summary>The number that a name gives a vCPU, as the VMM counts; null if it is not such a name.</summary>
    internal static int? NumberIn(string name) =>
        Names().Match(name) is { Success: true } match && int.TryParse(match.Groups["number"].ValueSpan, NumberStyles.None, CultureInfo.InvariantCulture, out var number) ? number : null;

    // QEMU (debug-threads=on, as libvirt has it), StratoVirt; Firecracker; cloud-hypervisor; crosvm; kvmtool.
    [GeneratedRegex("^(CPU ?(?<number>[0-9]+)/KVM|(fc_vcpu |vcpu|crosvm_vcpu|kvm-vcpu-)(?<number>[0-9]+))$")]
    private static partial Regex Names();
}
