using KvmTsc.Clocks;
using KvmTsc.Machines;

namespace KvmTsc.Migration;

/// <summary>
/// What a state and the VM that is to be given it have to keep to, as far as can be told without stopping the VM. A rule refuses by an
/// exception; told to force, those that are about judgement do not. A restore obeys them, and a preflight turns them into findings.
/// </summary>
internal static class RestoreRules
{
    public static IReadOnlyList<Action<bool>> Of(Machine machine, KvmTscState state, TscDowntime downtime) =>
    [
        _ => RequireSameVcpus(machine, state),
        force => RequireEqualOffsets(state, force),
        force => GuestTsc.RefuseUnsupported(machine, state.Vcpus.Select(vcpu => vcpu.TscKHz), force),
        _ => RefuseFuture(machine, state, downtime),
    ];

    private static void RequireEqualOffsets(KvmTscState state, bool force)
    {
        if (!force)
            KvmTscState.RequireEqualOffsets(state.VMName, state.Vcpus.Select(vcpu => vcpu.OffsetTicks));
    }

    /// <summary>Time that does not count may have passed backwards.</summary>
    private static void RefuseFuture(Machine machine, KvmTscState state, TscDowntime downtime)
    {
        if (downtime == TscDowntime.Count)
            GuestClock.RefuseFuture(machine, state.RealtimeNanoseconds);
    }

    private static void RequireSameVcpus(Machine machine, KvmTscState state)
    {
        if (state.Vcpus.Select(vcpu => vcpu.VcpuId).Order().SequenceEqual(machine.VcpuIds))
            return;
        throw new KvmException(
            KvmErrorId.VcpuMismatch,
            $"The state has vCPUs {VcpuRange.Format([.. state.Vcpus.Select(vcpu => vcpu.VcpuId).Order()])}, {machine.Identity.Name} has {VcpuRange.Format(machine.VcpuIds)}.",
            "Restore it to a VM with the same vCPUs as the source.");
    }
}
