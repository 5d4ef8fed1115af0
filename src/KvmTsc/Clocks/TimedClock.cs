using KvmTsc.Arithmetic;
using KvmTsc.Execution;
using KvmTsc.Hosts;
using KvmTsc.Interop;
using KvmTsc.Machines;

namespace KvmTsc.Clocks;

/// <summary>
/// kvmclock while KVM's master clock is off, when KVM does not say at which host TSC it was read: each reading lies between two of a guest TSC, and the one counts
/// whose two are closest.
/// </summary>
internal sealed class TimedClock
{
    private const int Readings = 5;

    private readonly int _vcpuId;
    private readonly Slot<KvmMsr>[] _tscs;
    private readonly Slot<KvmClockData>[] _clocks;

    private TimedClock(IoctlBatch batch, int vcpuId)
    {
        _vcpuId = vcpuId;
        _tscs = new Slot<KvmMsr>[Readings + 1];
        _clocks = new Slot<KvmClockData>[Readings];
        _tscs[0] = batch.GetGuestTsc(vcpuId);
        for (var i = 0; i < Readings; i++)
        {
            _clocks[i] = batch.GetClock();
            _tscs[i + 1] = batch.GetGuestTsc(vcpuId);
        }
    }

    /// <summary>Whether KVM could have a master clock for it, as far as can be told before it is stopped: a guest that never ran has none yet.</summary>
    public static bool IsPossible(Machine machine) => machine.VcpuIds.Count > 0 && machine.GuestHasRun && HostAbilities.AllowMasterClock(machine.ClockSource);

    /// <summary>Whether KVM leaves it off although all TSCs are one, which tells the time as well.</summary>
    public static bool IsNeeded(Machine machine, TscSnapshot snapshot) =>
        !snapshot.HasTriple && !snapshot.Clock.IsOfLostTsc && snapshot.Vcpus.Values.Distinct().Count() == 1 && !machine.HostTsc.NeedsCatchUp(snapshot.Vcpus.Values.First().KHz);

    /// <summary>Adds the readings to a batch.</summary>
    public static TimedClock Add(IoctlBatch batch, Machine machine) => new(batch, machine.VcpuIds[0]);

    /// <summary>A snapshot of the same moment, with what the batch has read of the clock.</summary>
    public TscSnapshot Read(IoctlBatch batch, Machine machine, TscSnapshot snapshot)
    {
        var best = 0;
        for (var i = 1; i < Readings; i++)
        {
            if (TicksAround(batch, i) < TicksAround(batch, best))
                best = i;
        }

        var ticks = TicksAround(batch, best);
        var middle = unchecked(batch.Read(_tscs[best]).Data + (ulong)(ticks / 2));
        var (offset, kHz) = snapshot.Vcpus[_vcpuId];
        var clock = At(batch.Read(_clocks[best]), machine, offset, kHz, middle);
        return snapshot.Timed(clock, (double)TscArithmetic.NanosecondsIn((ticks / 2) + 1, kHz) + 1);
    }

    /// <summary>A reading of the clock as if KVM had said that it was at the host TSC at which the guest TSC of a vCPU was so much.</summary>
    public static KvmClockData At(KvmClockData clock, Machine machine, ulong offset, uint kHz, ulong guestTsc) =>
        At(clock, machine.InstantAt(TscArithmetic.HostTsc(guestTsc, machine.HostTsc.RatioAt(kHz), offset)));

    /// <summary>A reading of the clock as if KVM had said that it was at this instant.</summary>
    public static KvmClockData At(KvmClockData clock, HostInstant instant) =>
        new() { Clock = clock.Clock, HostTsc = instant.HostTsc, Realtime = instant.Realtime, Flags = clock.Flags | KvmClockData.Triple };

    private long TicksAround(IoctlBatch batch, int reading) => TscArithmetic.Distance(batch.Read(_tscs[reading]).Data, batch.Read(_tscs[reading + 1]).Data);
}
