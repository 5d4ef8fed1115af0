using KvmTsc.Arithmetic;
using KvmTsc.Execution;
using KvmTsc.Interop;

namespace KvmTsc.Clocks;

/// <summary>The steps of batches that read and write clocks.</summary>
internal static class ClockIoctls
{
    public static Slot<KvmClockData> GetClock(this IoctlBatch batch)
    {
        var slot = batch.Reserve<KvmClockData>();
        batch.Add(OnVM(KvmRequest.GetClock, slot));
        return slot;
    }

    public static void SetClock(this IoctlBatch batch, KvmClockData value) => batch.Add(SetClockStep(batch, value));

    public static void SetClock(this IoctlBatch batch, Slot<KvmClockData> value) => batch.Add(SetClockStep(value));

    public static BatchStep SetClockStep(IoctlBatch batch, KvmClockData value) => SetClockStep(batch.Reserve(value));

    /// <summary>Sets the clock to what a slot holds by then.</summary>
    public static BatchStep SetClockStep(Slot<KvmClockData> value) => OnVM(KvmRequest.SetClock, value);

    /// <summary>Reads a vCPU's guest TSC: unlike <see cref="GetClock"/> also while the master clock is off.</summary>
    public static Slot<KvmMsr> GetGuestTsc(this IoctlBatch batch, int vcpuId)
    {
        var tsc = batch.Reserve(new KvmMsr { Count = 1, Index = KvmMsr.Tsc });
        batch.Add(new BatchStep(BatchStepKind.Ioctl, vcpuId, KvmRequest.GetMsrs, tsc.Offset, ArgumentIsSlot: true));
        return tsc;
    }

    /// <summary>Reads an MSR of a vCPU: 0 where KVM does not know it.</summary>
    public static Slot<KvmMsr> TryGetMsr(this IoctlBatch batch, int vcpuId, uint index)
    {
        var msr = batch.Reserve(new KvmMsr { Count = 1, Index = index });
        batch.Add(new BatchStep(BatchStepKind.Attempt, vcpuId, KvmRequest.GetMsrs, msr.Offset, ArgumentIsSlot: true));
        return msr;
    }

    /// <summary>Corrects a clock that is to be set again by what a reading shows to be wrong with it.</summary>
    /// <param name="batch">The batch.</param>
    /// <param name="reading">The reading.</param>
    /// <param name="source">Where the clock should have stood, and when, in both of a reading's units of time.</param>
    /// <param name="hostTscKHz">The frequency of the host's TSC, if that is the time that counts; else CLOCK_REALTIME does.</param>
    /// <param name="value">The clock that was set, and is to be set again.</param>
    public static void CorrectClock(
        this IoctlBatch batch, Slot<KvmClockData> reading, KvmClockData source, uint? hostTscKHz, Slot<KvmClockData> value)
    {
        var (multiplier, fractionBits) = hostTscKHz is { } kHz ? PvclockScale.ToNanoseconds(kHz).ToFraction() : (1, 0);
        var correction = batch.Reserve(new ClockCorrection
        {
            SourceClock = source.Clock,
            SourceInstant = hostTscKHz is null ? source.Realtime : source.HostTsc,
            Multiplier = multiplier,
            FractionBits = (uint)fractionBits,
            InstantSlot = reading.Offset + (hostTscKHz is null ? RealtimeOffset : HostTscOffset),
            ClockSlot = reading.Offset,
            ResultSlot = value.Offset,
        });
        batch.Add(new BatchStep(BatchStepKind.CorrectClock, null, 0, correction.Offset, ArgumentIsSlot: true));
    }

    /// <summary>
    /// Sets kvmclock to its own line: what writes offsets has KVM take its master clock anew, from a clock that runs beside kvmclock by up to 0.2 ppm, so
    /// that kvmclock would jump, back or forth, by what that makes since it last was taken.
    /// </summary>
    /// <param name="batch">The batch.</param>
    /// <param name="before">A reading with host TSC and CLOCK_REALTIME, shortly before.</param>
    /// <param name="staysOn">Whether the master clock stays on, by whose readings it can be corrected.</param>
    /// <param name="hostTscKHz">The frequency of the host's TSC.</param>
    public static void KeepClock(this IoctlBatch batch, KvmClockData before, bool staysOn, uint hostTscKHz)
    {
        const int Corrections = 2;
        TscUndo.ClockOf(batch, batch.Steps.Count + 1, before);
        var value = batch.Reserve(GuestClock.ClockData(before.Clock, before.Realtime));
        batch.SetClock(value);
        for (var i = 0; i < Corrections && staysOn; i++)
        {
            batch.CorrectClock(batch.GetTriple(), before, hostTscKHz, value);
            batch.SetClock(value);
        }
    }

    /// <summary>Reads the clock, and ends the batch unless the reading has host TSC and CLOCK_REALTIME.</summary>
    public static Slot<KvmClockData> GetTriple(this IoctlBatch batch)
    {
        var clock = batch.GetClock();
        batch.ExpectTriple(clock);
        return clock;
    }

    /// <summary>Ends the batch unless a clock reading has host TSC and CLOCK_REALTIME.</summary>
    public static void ExpectTriple(this IoctlBatch batch, Slot<KvmClockData> clock) =>
        batch.Add(new BatchStep(BatchStepKind.ExpectBits, null, 0, clock.Offset + FlagsOffset, true, KvmClockData.Triple));

    public static Slot<ulong> GetOffset(this IoctlBatch batch, int vcpuId)
    {
        var value = batch.Reserve<ulong>();
        batch.Add(OffsetStep(batch, vcpuId, KvmRequest.GetDeviceAttr, value));
        return value;
    }

    public static void SetOffset(this IoctlBatch batch, int vcpuId, Slot<ulong> value) =>
        batch.Add(OffsetStep(batch, vcpuId, KvmRequest.SetDeviceAttr, value));

    public static BatchStep OffsetStep(IoctlBatch batch, int vcpuId, nuint request, Slot<ulong> value)
    {
        var attribute = batch.Reserve(new KvmDeviceAttr { Group = KvmDeviceAttr.VcpuTscControl, Attribute = KvmDeviceAttr.VcpuTscOffset });
        batch.Relocate(attribute.Offset + AddressOffset, value);
        return new BatchStep(BatchStepKind.Ioctl, vcpuId, request, attribute.Offset, ArgumentIsSlot: true);
    }

    public static Slot<int> GetTscKHz(this IoctlBatch batch, int vcpuId)
    {
        var result = batch.Reserve<int>();
        batch.Add(new BatchStep(BatchStepKind.Ioctl, vcpuId, KvmRequest.GetTscKHz, 0, ArgumentIsSlot: false, ResultSlot: result.Offset));
        return result;
    }

    public static void SetTscKHz(this IoctlBatch batch, int vcpuId, uint kHz) => batch.Add(SetTscKHzStep(vcpuId, kHz));

    public static BatchStep SetTscKHzStep(int vcpuId, uint kHz) =>
        new(BatchStepKind.Ioctl, vcpuId, KvmRequest.SetTscKHz, kHz, ArgumentIsSlot: false);

    /// <summary>Computes an offset from a clock reading of this very batch, which has its host TSC with it.</summary>
    public static Slot<ulong> ResolveOffset(
        this IoctlBatch batch, Slot<KvmClockData> clock, ulong sourceGuestTsc, ulong sourceClock, uint kHz, TscRatio destinationRatio) =>
        ResolveOffset(batch, (clock.Offset, clock.Offset + HostTscOffset), sourceGuestTsc, sourceClock, kHz, destinationRatio);

    /// <summary>
    /// The same from a clock reading without its host TSC, and a reading of a guest TSC right before or after it, which is the host's, scaled as for this vCPU, and an offset.
    /// </summary>
    public static Slot<ulong> ResolveOffset(
        this IoctlBatch batch, Slot<KvmClockData> clock, (Slot<KvmMsr> Tsc, ulong Offset) guest, ulong sourceGuestTsc, ulong sourceClock, uint kHz) =>
        ResolveOffset(batch, (clock.Offset, guest.Tsc.Offset + MsrDataOffset), unchecked(sourceGuestTsc + guest.Offset), sourceClock, kHz, TscRatio.None);

    private static Slot<ulong> ResolveOffset(
        IoctlBatch batch, (int Clock, int Tsc) at, ulong sourceGuestTsc, ulong sourceClock, uint kHz, TscRatio destinationRatio)
    {
        var result = batch.Reserve<ulong>();
        var resolution = batch.Reserve(new OffsetResolution
        {
            SourceGuestTsc = sourceGuestTsc,
            SourceClock = sourceClock,
            KHz = kHz,
            Ratio = destinationRatio.Multiplier,
            FractionBits = (uint)destinationRatio.FractionBits,
            ClockSlot = at.Clock,
            TscSlot = at.Tsc,
            ResultSlot = result.Offset,
        });
        batch.Add(new BatchStep(BatchStepKind.ResolveOffset, null, 0, resolution.Offset, ArgumentIsSlot: true));
        return result;
    }

    /// <summary>Ends the batch unless two values are equal.</summary>
    public static void ExpectEqual(this IoctlBatch batch, int vcpuId, Slot<ulong> value, Slot<ulong> expected) =>
        batch.Add(new BatchStep(BatchStepKind.ExpectEqual, vcpuId, 0, value.Offset, ArgumentIsSlot: true, expected.Offset));

    /// <summary>
    /// Tells guests that have kvmclock that they were stopped, so that they do not report a soft lockup for the time that they missed, and arms
    /// their TSC-deadline timers again, where they are pending: an offset write leaves those at the time of the old offset. It ends a batch,
    /// since it is not undone: what could still fail after it would leave timers armed for offsets that are put back.
    /// </summary>
    public static void SettleVcpus(this IoctlBatch batch, IEnumerable<int> vcpuIds)
    {
        foreach (var id in vcpuIds)
            batch.SettleVcpu(id);
    }

    private static void SettleVcpu(this IoctlBatch batch, int vcpuId)
    {
        batch.Add(new BatchStep(BatchStepKind.Attempt, vcpuId, KvmRequest.KvmclockCtrl, 0, ArgumentIsSlot: false));
        var deadline = batch.TryGetMsr(vcpuId, KvmMsr.TscDeadline);
        batch.Add(new BatchStep(BatchStepKind.Attempt, vcpuId, KvmRequest.SetMsrs, deadline.Offset, ArgumentIsSlot: true));
    }

    private const int FlagsOffset = 8;
    private const int RealtimeOffset = 16;
    private const int HostTscOffset = 24;
    private const int AddressOffset = 16;
    private const int MsrDataOffset = 16;

    private static BatchStep OnVM(nuint request, Slot<KvmClockData> slot) =>
        new(BatchStepKind.Ioctl, null, request, slot.Offset, ArgumentIsSlot: true);
}
