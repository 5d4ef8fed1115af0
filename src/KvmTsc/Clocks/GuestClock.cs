using KvmTsc.Arithmetic;
using KvmTsc.Execution;
using KvmTsc.Interop;
using KvmTsc.Machines;

namespace KvmTsc.Clocks;

/// <summary>Reads and sets the kvmclock of a VM.</summary>
public static class GuestClock
{
    /// <summary>Reads it: step 1 and step 5 of the algorithm.</summary>
    public static KvmClock Read(Machine machine, CancellationToken cancellationToken)
    {
        var batch = new IoctlBatch();
        var clock = batch.GetClock();
        var stopped = machine.RunStopped(batch, cancellationToken);
        return new KvmClock(machine.Identity, batch.Read(clock), stopped);
    }

    /// <summary>Why a reading of kvmclock tells nothing, null if it does tell.</summary>
    public static string? DoubtOf(KvmClock clock) => new KvmClockData { Clock = clock.ClockNanoseconds, Flags = (uint)clock.Flags }.IsOfLostTsc ? LostTsc(clock.VMName) : null;

    /// <summary>What became of the kvmclock that KVM tells of a VM.</summary>
    internal static string LostTsc(string? vmName) =>
        $"The TSC of the host began anew while it slept, and {vmName} has not run since: what KVM tells of its kvmclock until then, it computes from the TSC before.";

    /// <summary>
    /// Sets it: step 4 of the algorithm. With a CLOCK_REALTIME the kernel adds the real time that has passed since.
    /// </summary>
    /// <param name="machine">The VM.</param>
    /// <param name="clockNanoseconds">kvmclock.</param>
    /// <param name="realtimeNanoseconds">CLOCK_REALTIME at the instant when kvmclock stood there; null sets kvmclock as it is.</param>
    /// <param name="force">Lets the clock of a guest that has run go backwards.</param>
    /// <param name="cancellationToken">Ends waiting for the VM.</param>
    /// <returns>The clock, read back.</returns>
    /// <exception cref="KvmException">Nothing was changed.</exception>
    public static KvmClock Set(
        Machine machine, ulong clockNanoseconds, ulong? realtimeNanoseconds, bool force, CancellationToken cancellationToken)
    {
        var value = ClockData(clockNanoseconds, realtimeNanoseconds);
        RefuseImpossible(clockNanoseconds);
        RefuseFuture(machine, realtimeNanoseconds);
        var (after, stopped) = machine.Executor.WhileStopped(
            stop =>
            {
                var before = ReadBefore(machine, stop, value, force);
                var batch = new IoctlBatch();
                TscUndo.ClockOf(batch, batch.Steps.Count + 1, before);
                batch.SetClock(value);
                var readBack = batch.GetClock();
                stop.RunOrThrow(batch, machine.Identity.Name);
                return batch.Read(readBack);
            },
            cancellationToken);
        return new KvmClock(machine.Identity, after, stopped);
    }

    /// <summary>What <see cref="Set"/> would change, refused where it would be: kvmclock as it is now.</summary>
    /// <exception cref="KvmException"><see cref="Set"/> would fail.</exception>
    public static KvmClock Preview(
        Machine machine, ulong clockNanoseconds, ulong? realtimeNanoseconds, bool force, CancellationToken cancellationToken)
    {
        RefuseImpossible(clockNanoseconds);
        RefuseFuture(machine, realtimeNanoseconds);
        var (before, stopped) = machine.Executor.WhileStopped(
            stop => ReadBefore(machine, stop, ClockData(clockNanoseconds, realtimeNanoseconds), force), cancellationToken);
        return new KvmClock(machine.Identity, before, stopped);
    }

    private static KvmClockData ReadBefore(Machine machine, IVMStop stop, KvmClockData value, bool force)
    {
        var batch = new IoctlBatch();
        var slot = batch.GetClock();
        stop.RunOrThrow(batch, machine.Identity.Name);
        var before = batch.Read(slot);
        if (!force && machine.GuestHasRun)
            RefuseBackwards(machine, before, value);
        return before;
    }

    internal static KvmClockData ClockData(ulong clockNanoseconds, ulong? realtimeNanoseconds) => new()
    {
        Clock = clockNanoseconds,
        Realtime = realtimeNanoseconds ?? 0,
        Flags = realtimeNanoseconds is null ? 0 : (uint)KvmClockFlags.Realtime,
    };

    /// <summary>Refuses a kvmclock that would be taken for what it is not.</summary>
    internal static void RefuseImpossible(ulong clockNanoseconds)
    {
        if (KvmClockData.CanBe(clockNanoseconds))
            return;
        throw new KvmException(
            KvmErrorId.InvalidValue,
            $"A kvmclock of {clockNanoseconds / 1e9:0} s is more than 73 years, and could not be told from what KVM makes of a TSC that began anew while the host slept.",
            "Give kvmclock in nanoseconds since the guest began.");
    }

    /// <summary>The kernel takes a realtime in the future and silently advances nothing; we do not.</summary>
    internal static void RefuseFuture(Machine machine, ulong? realtimeNanoseconds)
    {
        if (realtimeNanoseconds == 0)
        {
            throw new KvmException(
                KvmErrorId.RealtimeInvalid,
                "A CLOCK_REALTIME of 0 is no reading of a clock: kvmclock would be advanced by all the time since 1970.",
                "Give the CLOCK_REALTIME of the clock reading, or none to set kvmclock as it is.");
        }

        var now = machine.HostNow.Realtime;
        if (realtimeNanoseconds > now)
        {
            throw new KvmException(
                KvmErrorId.RealtimeInFuture,
                $"The clock was read {(realtimeNanoseconds.Value - now) / 1e9:0.######} s in the future of this host's CLOCK_REALTIME; KVM would advance nothing, silently.",
                "Synchronise the clocks of both hosts (chronyc tracking), then try again.");
        }
    }

    internal static void RefuseBackwards(Machine machine, KvmClockData before, KvmClockData value)
    {
        var target = unchecked(value.Clock + Elapsed(value, machine.InstantOf(before).Realtime));
        var step = TscArithmetic.Distance(before.Clock, target);
        if (step < 0)
        {
            throw new KvmException(
                KvmErrorId.ClockBackwards,
                $"kvmclock of {machine.Identity.Name} stands at {before.Clock / 1e9:0.######} s and would go back by {-(Int128)step / 1_000} us.",
                "A guest that runs sees time go backwards then. Use -Force if that is meant.");
        }
    }

    private static ulong Elapsed(KvmClockData value, ulong realtimeNow) =>
        (value.Flags & (uint)KvmClockFlags.Realtime) != 0 && realtimeNow > value.Realtime ? realtimeNow - value.Realtime : 0;
}
