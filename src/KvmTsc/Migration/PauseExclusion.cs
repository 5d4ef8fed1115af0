using KvmTsc.Arithmetic;
using KvmTsc.Clocks;
using KvmTsc.Execution;
using KvmTsc.Machines;

namespace KvmTsc.Migration;

/// <summary>
/// Has a pause be none for a guest. TSCs count on while a VM is paused, and a VMM takes kvmclock alone back: here they follow it, to where they stood when
/// kvmclock was what it is now. For a guest that has not run since.
/// </summary>
internal static class PauseExclusion
{
    /// <summary>Writes the offsets.</summary>
    /// <param name="machine">The VM.</param>
    /// <param name="stop">The stop in which its clocks were read.</param>
    /// <param name="now">These clocks, with their host TSC.</param>
    /// <param name="line">The line that all of them were on before the pause.</param>
    /// <returns>The clocks then, read back.</returns>
    public static TscSnapshot Apply(Machine machine, IVMStop stop, TscSnapshot now, KvmTscState line)
    {
        var moment = line.HostTscAt(now.Clock.Clock);
        var batch = new IoctlBatch();
        GuestTsc.AddWrites(machine, batch, now, [.. line.Vcpus.Select(vcpu => (vcpu.VcpuId, OffsetAt(vcpu)))]);
        var readBack = TscSnapshot.Add(batch, machine);
        stop.RunOrThrow(batch, machine.Identity.Name);
        return readBack.Read(batch);

        ulong OffsetAt(KvmVcpuTscState vcpu) => unchecked(
            TscArithmetic.GuestTsc(moment, vcpu.Ratio, (ulong)vcpu.OffsetTicks) - vcpu.Ratio.Apply(now.Clock.HostTsc));
    }
}
