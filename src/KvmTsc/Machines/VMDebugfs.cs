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
        try
        {
            return [.. new DirectoryInfo(Directory).EnumerateDirectories($"{VcpuPrefix}*").Select(VcpuIdOf).Where(id => id >= 0).Order()];
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            return [];
        }
    }

    /// <summary>The thread that entered a vCPU last, 0 if none ever did, null where the kernel does not tell (before Linux 5.18).</summary>
    public int? ReadThread(int vcpuId) => (int?)KernelFiles.ReadNumber(PathOf(vcpuId, "pid"));

    /// <summary>A vCPU's TSC offset, null where it cannot be read.</summary>
    public long? ReadOffset(int vcpuId) =>
        long.TryParse(KernelFiles.ReadLine(PathOf(vcpuId, "tsc-offset")), NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out var offset)
            ? offset
            : null;

    /// <summary>How the host's TSC is scaled for a vCPU; null without hardware scaling.</summary>
    public TscRatio? ReadRatio(int vcpuId) =>
        KernelFiles.ReadNumber(PathOf(vcpuId, "tsc-scaling-ratio")) is { } ratio
        && KernelFiles.ReadNumber(PathOf(vcpuId, "tsc-scaling-ratio-frac-bits")) is { } fractionBits
            ? new TscRatio(ratio, (int)fractionBits)
            : null;

    private string PathOf(int vcpuId, string file) => $"{Directory}/{VcpuPrefix}{vcpuId}/{file}";

    private static int VcpuIdOf(DirectoryInfo directory) =>
        int.TryParse(directory.Name.AsSpan(VcpuPrefix.Length), NumberStyles.None, CultureInfo.InvariantCulture, out var id) ? id : -1;
}
