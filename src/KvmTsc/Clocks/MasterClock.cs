using KvmTsc.Arithmetic;
using KvmTsc.Execution;
using KvmTsc.Hosts;
using KvmTsc.Machines;

namespace KvmTsc.Clocks;

/// <summary>
/// Repairs a VM whose vCPUs' TSC offsets diverged, so that KVM turned its master clock off: all vCPUs get the largest of their offsets, since no
/// guest TSC may go backwards, and kvmclock, which goes on meanwhile, is set to itself, which has KVM look at the offsets at once.
/// </summary>
public static class MasterClock
{
    /// <summary>
    /// By how much a guest TSC is advanced without further ado: as far apart as KVM itself takes two writes of a TSC for one and the same
    /// (<c>kvm_synchronize_tsc</c> in arch/x86/kvm/x86.c).
    /// </summary>
    public const double DefaultMaximumAdvanceSeconds = 1;

    /// <summary>Repairs a VM. One that needs no repair is left alone.</summary>
    /// <param name="machine">The VM.</param>
    /// <param name="maximumAdvanceSeconds">By how much a guest TSC may be advanced.</param>
    /// <param name="force">Lets a guest TSC be advanced by more than that, and repairs what needs no repair.</param>
    /// <param name="cancellationToken">Ends waiting for the VM.</param>
    /// <returns>What was done, read back.</returns>
    /// <exception cref="KvmException">It cannot be repaired, or that failed; the VM is as it was unless the message says otherwise.</exception>
    public static KvmMasterClockRepair Repair(Machine machine, double maximumAdvanceSeconds, bool force, CancellationToken cancellationToken)
    {
        RefuseClockSource(machine);
        var reading = TscSnapshot.Of(machine);
        var ((plan, done), stopped) = reading.WhileStopped(
            stop =>
            {
                var needed = MasterClockPlan.Make(machine, reading.Run(stop), maximumAdvanceSeconds, force);
                return (needed, needed.IsNeeded ? Apply(machine, stop, needed) : null);
            },
            cancellationToken);
        return new KvmMasterClockRepair(machine.Identity, plan, done, stopped);
    }

    /// <summary>What <see cref="Repair"/> would do, refused where it would be.</summary>
    /// <exception cref="KvmException"><see cref="Repair"/> would be refused.</exception>
    public static MasterClockPlan Preview(Machine machine, double maximumAdvanceSeconds, bool force, CancellationToken cancellationToken)
    {
        RefuseClockSource(machine);
        return MasterClockPlan.Make(machine, TscSnapshot.Of(machine).Take(cancellationToken).Result, maximumAdvanceSeconds, force);
    }

    /// <summary>Refuses a host on which KVM has no master clock, whatever the offsets are.</summary>
    internal static void RefuseClockSource(Machine machine)
    {
        if (HostAbilities.AllowMasterClock(machine.ClockSource))
            return;
        throw new KvmException(
            KvmErrorId.ClockWithoutTriple,
            $"The clocksource of the host is {machine.ClockSource}, and KVM has a master clock only where it is tsc.",
            "See why the host does not use its TSC (dmesg | grep -i tsc, Get-KvmHost), then boot it with tsc as its clocksource.");
    }

    private static MasterClockSwitch Apply(Machine machine, IVMStop stop, MasterClockPlan plan)
    {
        var batch = new IoctlBatch();
        TscUndo.OffsetsOf(batch, batch.Steps.Count + 1, plan.Before);
        var offset = batch.Reserve(unchecked((ulong)plan.OffsetTicks));
        GuestTsc.AddWrites(batch, machine.VcpuIds.Select(id => (id, offset)));

        // kvmclock is set to what it was an ioctl ago, while all vCPUs stand still. Left alone it would not even lose that, but KVM would look at
        // the offsets only when the vCPU that was written last enters the guest, which one that halts may not do for long: nothing could be verified.
        var earlier = batch.GetGuestTsc(machine.VcpuIds[0]);
        var old = batch.GetClock();
        batch.AddUndo(batch.Steps.Count + 1, ClockIoctls.SetClockStep(old));
        batch.Add(ClockIoctls.SetClockStep(old));
        var later = batch.GetGuestTsc(machine.VcpuIds[0]);
        var now = batch.GetTriple();
        batch.SettleVcpus(machine.VcpuIds);
        try
        {
            stop.RunOrThrow(batch, machine.Identity.Name);
        }
        catch (KvmException exception) when (exception.ErrorId == KvmErrorId.ClockWithoutTriple)
        {
            throw StaysOff(machine, exception);
        }

        var ticks = TscArithmetic.Distance(batch.Read(earlier).Data, batch.Read(later).Data);
        var setting = TscArithmetic.NanosecondsIn(ticks, plan.Before.Vcpus[machine.VcpuIds[0]].KHz);
        return new MasterClockSwitch(batch.Read(old), batch.Read(now), (long)setting, machine.HostTsc.KHz);
    }

    private static KvmException StaysOff(Machine machine, KvmException failure) => new(
        failure.ErrorId,
        $"KVM leaves the master clock of {machine.Identity.Name} off although all of its vCPUs had one TSC offset. What had been written before was put back.",
        "KVM does so for as long as a VM lives when its guest uses the first version of kvmclock, and when the host was suspended while it ran. Its guest keeps its time all the same, by Save-KvmTscState before such a sleep and Restore-KvmTscState after it; a new process for the VM has a master clock again.",
        failure);
}
