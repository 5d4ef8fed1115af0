using KvmTsc.Arithmetic;
using KvmTsc.Clocks;
using KvmTsc.Hosts;
using KvmTsc.Machines;

namespace KvmTsc.Migration;

/// <summary>
/// What a state and the VM that is to be given it have to keep to, as far as can be told without stopping the VM. A rule refuses by an
/// exception; told to force, those that are about judgement do not. A restore obeys them, and a preflight turns them into findings.
/// </summary>
internal static class RestoreRules
{
    /// <param name="machine">The VM.</param>
    /// <param name="host">Its host, now.</param>
    /// <param name="state">The state.</param>
    /// <param name="options">How it is to be restored.</param>
    /// <param name="secondsToCome">For how long the guest will stand still yet.</param>
    public static IReadOnlyList<Action<bool>> Of(
        Machine machine, KvmHostIdentity host, KvmTscState state, TscRestoreOptions options, double secondsToCome = 0) =>
    [
        force => RequireSameVcpus(machine, state, force),
        force => RequireEqualOffsets(state, force || options.KeepsTsc),
        force => RefuseUnsupported(machine, host, state, options, force),
        _ => GuestClock.RefuseImpossible(state.ClockNanoseconds),
        _ => RefuseFuture(machine, host, state, options),
        _ => RefuseDowntime(machine, host, state, options, secondsToCome),
    ];

    /// <summary>
    /// What the hosts' clocks have to keep to where they tell the time since the capture. A preflight has these of its own, for each side.
    /// </summary>
    public static IReadOnlyList<Action<bool>> OfClocks(Machine machine, KvmTscState state, TscRestoreOptions options)
    {
        if (options.Downtime != TscDowntime.Count)
            return [];
        var (source, host) = (state.Host, machine.Host);
        Action[] rules = ClockLine.IsOneTsc(state, host, machine.HostNow.HostTsc)
            ? [() => TscJudge.RefuseContradiction(state, host)]
            : [() => RealtimeRules.RefuseUnsynchronized(source), () => RealtimeRules.RefuseUnsynchronized(host), () => RealtimeRules.RefuseTaiChange(source, host)];
        return [.. rules.Select(ByJudgement)];
    }

    /// <summary>A rule that -Force lifts.</summary>
    public static Action<bool> ByJudgement(Action refuse) => force =>
    {
        if (!force)
            refuse();
    };

    /// <summary>
    /// Refuses a state that is older than is allowed, or will be: a restore asks again when the VM is stopped, which may take its time. It reads no file: a VM
    /// may stand still for it.
    /// </summary>
    public static void RefuseDowntime(
        Machine machine, KvmHostIdentity host, KvmTscState state, TscRestoreOptions options, double secondsToCome = 0)
    {
        if (options.MaximumDowntime is not { } maximum)
            return;
        var now = machine.HostNow;
        var downtime = ClockLine.DowntimeOf(state, host, ClockLine.IsOneTsc(state, host, now.HostTsc), now.HostTsc, now.Realtime);
        var seconds = (downtime / 1e9) + secondsToCome;
        if (seconds <= maximum.TotalSeconds)
            return;
        throw new KvmException(
            KvmErrorId.DowntimeExceeded,
            FormattableString.Invariant(
                $"The downtime of {state.VMName} is {seconds:0.###} s, more than the {maximum.TotalSeconds:0.###} s that are allowed."),
            "Decide whether its guest can take such a jump (-MaximumDowntime).");
    }

    private static void RequireEqualOffsets(KvmTscState state, bool force)
    {
        if (!force)
            KvmTscState.RequireEqualOffsets(state.VMName, state.Vcpus.Select(vcpu => vcpu.OffsetTicks));
    }

    /// <summary>Time that does not count may have passed backwards, and on one TSC CLOCK_REALTIME is not asked.</summary>
    private static void RefuseFuture(Machine machine, KvmHostIdentity host, KvmTscState state, TscRestoreOptions options)
    {
        if (options.Downtime == TscDowntime.Count
            && (options.Method == TscMethod.Documented || !ClockLine.IsOneTsc(state, host, machine.HostNow.HostTsc)))
            GuestClock.RefuseFuture(machine, state.RealtimeNanoseconds);
    }

    /// <summary>
    /// Frequencies that KVM would refuse, or only pretend to have. One that it refused on the source, where it kept the number and let the guest run as fast as
    /// the host, does not keep the guest from going on like that with the offset that it had.
    /// </summary>
    private static void RefuseUnsupported(Machine machine, KvmHostIdentity host, KvmTscState state, TscRestoreOptions options, bool force)
    {
        var isOneTsc = ClockLine.IsOneTsc(state, host, machine.HostNow.HostTsc);
        var refusable = state.Vcpus.Where(vcpu => machine.HostTsc.Supports(vcpu.TscKHz) || ClockLine.ExactOffset(vcpu, options, machine.HostTsc, isOneTsc) is null);
        GuestTsc.RefuseUnsupported(machine, refusable.Select(vcpu => vcpu.TscKHz), force);
    }

    private static void RequireSameVcpus(Machine machine, KvmTscState state, bool force)
    {
        if (state.Vcpus.Select(vcpu => vcpu.VcpuId).Order().SequenceEqual(machine.VcpuIds) || (force && state.ForVcpus(machine.VcpuIds) is not null))
            return;
        throw new KvmException(
            KvmErrorId.VcpuMismatch,
            $"The state has vCPUs {VcpuRange.Format([.. state.Vcpus.Select(vcpu => vcpu.VcpuId).Order()])}, {machine.Identity.Name} has {VcpuRange.Format(machine.VcpuIds)}.",
            "Restore it to a VM with the same vCPUs as the source. Use -Force for vCPUs that were plugged in or out: those that the state does not know get what all of it have.");
    }
}
