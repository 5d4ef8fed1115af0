using System.Globalization;
using KvmTsc.Arithmetic;
using KvmTsc.Processes;

namespace KvmTsc.Machines;

/// <summary>A VM's directory in KVM's debugfs, which tells of it without stopping it.</summary>
/// <param name="Directory">Its path.</param>
internal sealed record VMDebugfs(string Directory)
{
    private const string VcpuPrefix = "vcpu";

    /// <summary>Its vCPUs, ascending; empty if the VM is gone.</summary>
    public IReadOnlyList<int> ReadVcpuIds()
    {
        var ids = NumberedDirectory.Read(Directory, VcpuPrefix);
        ids.Sort();
        return ids;
    }

    /// <summary>The thread that entered a vCPU last, 0 if none ever did, null where the kernel does not tell (before Linux 5.18).</summary>
    public int? ReadThread(int vcpuId) => (int?)KernelFiles.ReadNumber(PathOf(vcpuId, "pid"));

    /// <summary>The TSC offsets of vCPUs, null where they cannot be read.</summary>
    /// <remarks>
    /// While a vCPU runs a guest of its guest, the kernel shows that one's (vcpu_get_tsc_offset in arch/x86/kvm/debugfs.c; KVM_VCPU_TSC_OFFSET is the guest's own).
    /// Such an entry is counted when it is over, so that none was if no vCPU was in one before and after, and the count is the same.
    /// </remarks>
    public IReadOnlyDictionary<int, long>? ReadOffsets(IReadOnlyList<int> vcpuIds)
    {
        var before = NestedEntries;
        if (before is null || vcpuIds.Any(id => IsNested(id) != false))
            return null;
        var offsets = new Dictionary<int, long>();
        foreach (var id in vcpuIds)
        {
            if (!long.TryParse(KernelFiles.ReadLine(PathOf(id, "tsc-offset")), NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out var offset))
                return null;
            offsets.Add(id, offset);
        }

        return vcpuIds.Any(id => IsNested(id) != false) || NestedEntries != before ? null : offsets;
    }

    /// <summary>How often its vCPUs have left the guest, null where it cannot be read.</summary>
    public ulong? ReadExits() => KernelFiles.ReadNumber($"{Directory}/exits");

    private ulong? NestedEntries => KernelFiles.ReadNumber($"{Directory}/nested_run");

    private bool? IsNested(int vcpuId) => KernelFiles.ReadNumber(PathOf(vcpuId, "guest_mode")) is { } nested ? nested != 0 : null;

    /// <summary>How the host's TSC is scaled for a vCPU; null without hardware scaling.</summary>
    public TscRatio? ReadRatio(int vcpuId) =>
        KernelFiles.ReadNumber(PathOf(vcpuId, "tsc-scaling-ratio")) is { } ratio
        && KernelFiles.ReadNumber(PathOf(vcpuId, "tsc-scaling-ratio-frac-bits")) is { } fractionBits
            ? new TscRatio(ratio, (int)fractionBits)
            : null;

    private string PathOf(int vcpuId, string file) => $"{Directory}/{VcpuPrefix}{vcpuId}/{file}";
}
