namespace KvmTsc.Migration;

/// <summary>What a restore would do.</summary>
/// <param name="OldClock">kvmclock now, in nanoseconds.</param>
/// <param name="NewClock">kvmclock if it were restored at once.</param>
/// <param name="Vcpus">The vCPUs.</param>
public sealed record TscRestorePreview(ulong OldClock, ulong NewClock, IReadOnlyList<TscRestorePreview.Vcpu> Vcpus)
{
    /// <summary>What would become of one vCPU.</summary>
    /// <param name="VcpuId">The vCPU.</param>
    /// <param name="OldOffset">Its offset now.</param>
    /// <param name="NewOffset">Its offset if it were restored at once, null where only the restore itself can tell.</param>
    /// <param name="OldKHz">Its frequency now.</param>
    /// <param name="NewKHz">Its frequency then.</param>
    public sealed record Vcpu(int VcpuId, long OldOffset, long? NewOffset, uint OldKHz, uint NewKHz);
}
