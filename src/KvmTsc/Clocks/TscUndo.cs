using KvmTsc.Execution;
using KvmTsc.Interop;

namespace KvmTsc.Clocks;

/// <summary>Undo steps that lead a VM back to a snapshot.</summary>
internal static class TscUndo
{
    /// <summary>
    /// Puts the kvmclock back that would be now: what it was, and the time since. Without a triple it stands where it was.
    /// </summary>
    public static void ClockOf(IoctlBatch batch, int from, KvmClockData before) =>
        batch.AddUndo(from, ClockIoctls.SetClockStep(batch, new KvmClockData
        {
            Clock = before.Clock,
            Realtime = before.Realtime,
            Flags = before.Flags & (uint)KvmClockFlags.Realtime,
        }));

    /// <summary>
    /// Puts all offsets back, those that were not written too: KVM turns the master clock on again only when every vCPU was written.
    /// </summary>
    public static void OffsetsOf(IoctlBatch batch, int from, TscSnapshot before)
    {
        foreach (var (id, vcpu) in before.Vcpus)
            batch.AddUndo(from, ClockIoctls.OffsetStep(batch, id, KvmRequest.SetDeviceAttr, batch.Reserve(vcpu.Offset)));
    }

    /// <summary>Puts a frequency back, also after KVM refused the new one: KVM_GET_TSC_KHZ gives the refused one from then on.</summary>
    public static void FrequencyOf(IoctlBatch batch, int from, int vcpuId, TscSnapshot before) =>
        batch.AddUndo(from, ClockIoctls.SetTscKHzStep(vcpuId, before.Vcpus[vcpuId].KHz));
}
