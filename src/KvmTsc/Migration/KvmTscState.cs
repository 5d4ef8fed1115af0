using KvmTsc.Arithmetic;
using KvmTsc.Clocks;
using KvmTsc.Hosts;
using KvmTsc.Interop;
using KvmTsc.Machines;

namespace KvmTsc.Migration;

/// <summary>
/// The clocks of a VM at one instant, steps 1 to 3 of the algorithm: kvmclock with the host's TSC and CLOCK_REALTIME, and every vCPU's TSC
/// offset, frequency and ratio. It holds no handle and survives jobs, files and remote sessions.
/// </summary>
public sealed class KvmTscState
{
    /// <summary>Creates a state from its values; it is checked when it is used.</summary>
    public KvmTscState(
        string? vmName, int processId, string? vmId, string? vmm, ulong clockNanoseconds, ulong realtimeNanoseconds, ulong hostTsc,
        KvmVcpuTscState[] vcpus, KvmHostIdentity host, double stoppedMicroseconds, string? toolVersion, double? clockErrorNanoseconds = null)
    {
        VMName = vmName;
        ProcessId = processId;
        VMId = vmId;
        Vmm = vmm;
        ClockNanoseconds = clockNanoseconds;
        RealtimeNanoseconds = realtimeNanoseconds;
        HostTsc = hostTsc;
        Vcpus = vcpus;
        Host = host;
        StoppedMicroseconds = stoppedMicroseconds;
        ToolVersion = toolVersion;
        ClockErrorNanoseconds = clockErrorNanoseconds;
    }

    /// <summary>The VM's name.</summary>
    public string? VMName { get; }

    /// <summary>The process that ran the VM.</summary>
    public int ProcessId { get; }

    /// <summary>The VM among those of its host.</summary>
    public string? VMId { get; }

    /// <summary>The program that ran the VM.</summary>
    public string? Vmm { get; }

    /// <summary>kvmclock in nanoseconds.</summary>
    public ulong ClockNanoseconds { get; }

    /// <summary>The host's CLOCK_REALTIME at that instant, in nanoseconds.</summary>
    public ulong RealtimeNanoseconds { get; }

    /// <summary>The host's TSC at that instant.</summary>
    public ulong HostTsc { get; }

    /// <summary>The vCPUs, by ascending id.</summary>
    public IReadOnlyList<KvmVcpuTscState> Vcpus { get; }

    /// <summary>The host the state was captured on.</summary>
    public KvmHostIdentity Host { get; }

    /// <summary>For how long the VMM was stopped for this, in microseconds.</summary>
    public double StoppedMicroseconds { get; }

    /// <summary>The version of KvmTsc that captured it.</summary>
    public string? ToolVersion { get; }

    /// <summary>
    /// By how much kvmclock can have been something else at that host TSC, in nanoseconds, where KVM did not say which it was: its master clock is off for good. Null elsewhere.
    /// </summary>
    public double? ClockErrorNanoseconds { get; }

    /// <summary>When the state was captured, by its host's clock.</summary>
    public DateTime Captured => DateTime.UnixEpoch.AddTicks((long)Math.Min(RealtimeNanoseconds / 100, (ulong)TimeSpan.FromDays(365 * 2000).Ticks));

    /// <summary>Captures the clocks of a VM, all at one instant.</summary>
    /// <param name="machine">The VM.</param>
    /// <param name="force">Takes vCPUs whose offsets differ.</param>
    /// <param name="cancellationToken">Ends waiting for the VM.</param>
    /// <exception cref="KvmException">There is no state that could be restored.</exception>
    public static KvmTscState Save(Machine machine, bool force, CancellationToken cancellationToken) =>
        Capture(machine, force, asksGuestClocks: false, cancellationToken).State;

    /// <summary>The same, with what else was read.</summary>
    internal static (KvmTscState State, TscSnapshot Snapshot) Capture(
        Machine machine, bool force, bool asksGuestClocks, CancellationToken cancellationToken)
    {
        var host = machine.Host;
        var (snapshot, stopped) = TscSnapshot.Of(machine, asksGuestClocks, timesClock: true).Take(cancellationToken);
        RequireTriple(machine, snapshot);
        if (!force)
            RequireEqualOffsets(machine.Identity.Name, snapshot.Vcpus.Select(vcpu => unchecked((long)vcpu.Value.Offset)));
        return (Of(machine, host, snapshot, stopped), snapshot);
    }

    /// <summary>The state that a snapshot is.</summary>
    internal static KvmTscState Of(Machine machine, KvmHostIdentity host, TscSnapshot snapshot, double stopped) =>
        new(
            machine.Identity.Name,
            machine.Identity.ProcessId,
            machine.Identity.Id,
            machine.Vmm,
            snapshot.Clock.Clock,
            snapshot.Clock.Realtime,
            snapshot.Clock.HostTsc,
            [.. snapshot.Vcpus.Select(vcpu => StateOf(machine, vcpu.Key, vcpu.Value))],
            host,
            stopped,
            typeof(KvmTscState).Assembly.GetName().Version!.ToString(3),
            snapshot.HasMasterClock ? null : snapshot.ClockErrorNanoseconds);

    /// <summary>
    /// The state as a VM with other vCPUs is to have it: a VMM keeps vCPUs that were unplugged, and has none of those that are not plugged in yet. What the state
    /// does not know gets what all others have, without which KVM's master clock would be off; null where they differ.
    /// </summary>
    internal KvmTscState? ForVcpus(IReadOnlyList<int> vcpuIds)
    {
        var known = Vcpus.ToDictionary(vcpu => vcpu.VcpuId);
        var common = Vcpus.DistinctBy(vcpu => (vcpu.OffsetTicks, vcpu.TscKHz, vcpu.Ratio)).Count() == 1 ? Vcpus[0] : null;
        if (common is null && !vcpuIds.All(known.ContainsKey))
            return null;
        var vcpus = vcpuIds.Select(id => known.TryGetValue(id, out var vcpu)
            ? vcpu
            : new KvmVcpuTscState(id, common!.OffsetTicks, common.TscKHz, common.ScalingRatio, common.ScalingFractionBits));
        return new(
            VMName, ProcessId, VMId, Vmm, ClockNanoseconds, RealtimeNanoseconds, HostTsc, [.. vcpus], Host, StoppedMicroseconds, ToolVersion, ClockErrorNanoseconds);
    }

    /// <summary>
    /// The same line by the TSC that its host has now, which began anew, or stood still, while the host slept: by CLOCK_BOOTTIME, which KVM counts kvmclock on by, whatever the host
    /// took its sleep for. The same state where the TSC went on, or nothing is known of that.
    /// </summary>
    /// <param name="now">Its host, now.</param>
    internal KvmTscState CarriedOver(KvmHostIdentity now)
    {
        if (!Host.IsSameBoot(now) || Host.TscKHz != now.TscKHz || Host is not { HostTsc: { } then, MonotonicRawNanoseconds: { } raw, SuspendedNanoseconds: { } suspended }
            || now is not { HostTsc: { } hostTsc, MonotonicRawNanoseconds: { } rawNow, SuspendedNanoseconds: { } suspendedNow })
            return this;
        var asleep = TscArithmetic.Distance(suspended, suspendedNow);
        var passed = TscArithmetic.Distance(raw, rawNow) + asleep;
        if (TscJudge.WentOn((double)TscArithmetic.NanosecondsIn(TscArithmetic.Distance(then, hostTsc), now.TscKHz), passed))
            return this;
        var elapsed = passed + (long)TscArithmetic.NanosecondsIn(TscArithmetic.Distance(HostTsc, then), Host.TscKHz);
        var vcpus = Vcpus.Select(vcpu => new KvmVcpuTscState(
            vcpu.VcpuId,
            unchecked((long)(ClockLine.SourceGuestTsc(this, vcpu) + (ulong)TscArithmetic.TicksIn(elapsed, vcpu.TscKHz) - vcpu.Ratio.Apply(hostTsc))),
            vcpu.TscKHz,
            vcpu.ScalingRatio,
            vcpu.ScalingFractionBits));
        return new(
            VMName, ProcessId, VMId, Vmm, unchecked(ClockNanoseconds + (ulong)elapsed), unchecked(RealtimeNanoseconds + (ulong)elapsed), hostTsc, [.. vcpus], now, StoppedMicroseconds,
            ToolVersion, (ClockErrorNanoseconds ?? 0) + ((double)asleep / now.TscKHz)); // what a kHz of rounding makes of it
    }

    /// <summary>Refuses a state that no kernel can have given.</summary>
    internal void Validate()
    {
        if (TscStateFaults.First(this) is { } fault)
        {
            throw new KvmException(
                KvmErrorId.InvalidValue, $"This is no state that can be restored: {fault}.", "Capture it anew with Save-KvmTscState.");
        }
    }

    /// <summary>The host's TSC at which kvmclock was, or will be, so much, as it goes on from this state.</summary>
    internal ulong HostTscAt(ulong clockNanoseconds) =>
        unchecked(HostTsc + (ulong)TscArithmetic.TicksIn(TscArithmetic.Distance(ClockNanoseconds, clockNanoseconds), Host.TscKHz));

    /// <summary>Whether all vCPUs have one offset.</summary>
    internal bool OffsetsAreEqual => Vcpus.Select(vcpu => vcpu.OffsetTicks).Distinct().Count() <= 1;

    /// <summary>The instant of the capture.</summary>
    internal HostInstant Instant => new(HostTsc, RealtimeNanoseconds);

    /// <summary>The clock as it was read.</summary>
    internal KvmClockData Reading => new() { Clock = ClockNanoseconds, Realtime = RealtimeNanoseconds, HostTsc = HostTsc, Flags = KvmClockData.Triple };

    internal static void RequireEqualOffsets(string? vmName, IEnumerable<long> offsets)
    {
        var distinct = offsets.Distinct().ToArray();
        if (distinct.Length > 1)
        {
            throw new KvmException(
                KvmErrorId.UnequalOffsets,
                $"The vCPUs of {vmName} have {distinct.Length} different TSC offsets, {distinct.Max() - (Int128)distinct.Min()} ticks apart.",
                "Bring its vCPUs back to one offset (Repair-KvmMasterClock). Use -Force to take each as it is: the destination's master clock will be off then.");
        }
    }

    private static KvmVcpuTscState StateOf(Machine machine, int vcpuId, TscSnapshot.VcpuValues values)
    {
        var ratio = machine.RatioOf(vcpuId, values.KHz);
        return new KvmVcpuTscState(vcpuId, unchecked((long)values.Offset), values.KHz, ratio.Multiplier, ratio.FractionBits);
    }

    /// <summary>The refusal of a clock that counts from a TSC that is no more.</summary>
    internal static KvmException LostTsc(string? vmName) => new(
        KvmErrorId.ClockWithoutTriple,
        GuestClock.LostTsc(vmName),
        "Let the VM run first. To give it the clocks that it had before, restore them when it is resumed: Restore-KvmTscState -AtResume.");

    private static void RequireTriple(Machine machine, TscSnapshot snapshot)
    {
        if (snapshot.HasTriple)
            return;
        var name = machine.Identity.Name;
        if (snapshot.Clock.IsOfLostTsc)
            throw LostTsc(name);
        throw snapshot.OffsetsAreEqual
            ? new KvmException(
                KvmErrorId.ClockWithoutTriple,
                $"kvmclock of {name} gives no host TSC and CLOCK_REALTIME (flags {(KvmClockFlags)snapshot.Clock.Flags}): {name} never ran, or its host's clocksource is not tsc.",
                "Let the VM run first, or set its clock (Set-KvmClock). See the host's clocksource with Get-KvmHost.")
            : new KvmException(
                KvmErrorId.UnequalOffsets,
                $"The vCPUs of {name} have different TSC offsets, so KVM's master clock is off and kvmclock gives no host TSC and CLOCK_REALTIME: there is nothing to migrate.",
                "Bring its vCPUs back to one offset (Repair-KvmMasterClock), then try again.");
    }
}
