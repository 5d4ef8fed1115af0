using System.Numerics;
using System.Runtime.CompilerServices;
using KvmTsc.Clocks;

namespace KvmTsc.Tests.Simulation;

/// <summary>
/// A VM as arch/x86/kvm/x86.c of Linux 6.1 keeps it, as far as clocks go. It takes ioctls with their arguments in real memory, which it
/// decodes by the ABI's offsets and not by the structures under test.
/// </summary>
internal sealed unsafe class SimulatedVM
{
    private const int EIO = 5;
    private const int ENXIO = 6;
    private const int EINVAL = 22;
    private const int TscStable = 2;
    private const int Realtime = 4;
    private const int HostTsc = 8;
    private const uint Tsc = 0x10;
    private const uint TscDeadline = 0x6E0;
    private const ulong IntelMaximumRatio = 0xFFFFFFFF_FFFFFFFF;
    private const ulong AmdMaximumRatio = 0x000000FF_FFFFFFFF;

    private readonly SimulatedHost _host;
    private ulong _clockOffset;
    private ulong _masterTsc;
    private ulong _masterNanoseconds;
    private bool _masterClockRequested;
    private uint _lastKHz;
    private ulong _lastOffset;
    private int _generation;
    private int _matched;

    public SimulatedVM(SimulatedHost host, IEnumerable<int> vcpuIds)
    {
        _host = host;
        _clockOffset = unchecked(0 - host.KvmclockBase);
        host.TscLost += LoseTsc;
        Vcpus = vcpuIds.ToDictionary(id => id, _ => new SimulatedVcpu(host));
        var offset = unchecked(0 - host.Tsc);
        foreach (var vcpu in Vcpus.Values)
            Synchronize(vcpu, offset);
    }

    public IReadOnlyDictionary<int, SimulatedVcpu> Vcpus { get; }

    /// <summary>Whether the VM was created by another process.</summary>
    public bool IsForeign { get; set; }

    /// <summary>Whether the host's clocksource is tsc.</summary>
    public bool ClocksourceIsTsc { get; set; } = true;

    /// <summary>Whether the host was suspended while the VM ran: KVM gives it no master clock any more.</summary>
    public bool WasSuspended { get; set; }

    public bool MasterClock { get; private set; }

    /// <summary>Whether the vCPUs are of one TSC generation, so that KVM will have the master clock on.</summary>
    public bool VcpusMatch => _matched + 1 == Vcpus.Count;

    /// <summary>How long the kernel takes between its reading of kvmclock's base and that of CLOCK_REALTIME in KVM_SET_CLOCK.</summary>
    public long SettingPicoseconds => _host.Spec.IoctlPicoseconds / 3;

    /// <summary>kvmclock, master clock base and all: equal only if kvmclock was not set in between.</summary>
    public (ulong, ulong, ulong, bool) ClockBase => (_clockOffset, _masterTsc, _masterNanoseconds, MasterClock);

    /// <summary>The guest turns clocks of KVM's on.</summary>
    public void TurnOn(KvmGuestClocks clocks)
    {
        foreach (var vcpu in Vcpus.Values)
        {
            vcpu.HasKvmclock = clocks.HasFlag(KvmGuestClocks.Kvmclock);
            vcpu.OtherMsrs[SimulatedVcpu.HyperVReferenceTsc] = clocks.HasFlag(KvmGuestClocks.HyperV) ? 0x2001ul : 0;
        }
    }

    /// <summary>Enters the guest on every vCPU once.</summary>
    public void Run()
    {
        foreach (var vcpu in Vcpus.Values)
            vcpu.Load();
        foreach (var vcpu in Vcpus.Values.Where(vcpu => vcpu.CatchUp))
            CatchUp(vcpu);
        if (_masterClockRequested || !MasterClock)
            UpdateMasterClock();
    }

    public SimulatedClockReading ReadClock()
    {
        var tsc = _host.Tsc;
        return MasterClock
            ? new SimulatedClockReading(ClockAt(tsc), TscStable | Realtime | HostTsc, _host.Realtime, tsc, _host.Time.Picoseconds)
            : new SimulatedClockReading(unchecked(_host.KvmclockBase + _clockOffset), 0, 0, 0, _host.Time.Picoseconds);
    }

    /// <summary>kvmclock as the guest computes it from a TSC of the host.</summary>
    public ulong ClockAt(ulong hostTsc) =>
        unchecked(_masterNanoseconds + _clockOffset + PvclockNanoseconds(hostTsc - _masterTsc, _host.Spec.TscKHz));

    /// <summary>kvmclock as a guest computes it whose TSC is scaled: for its own frequency, in whole kHz, since KVM took the master clock.</summary>
    public ulong SeenAt(int vcpuId, ulong hostTsc)
    {
        var vcpu = Vcpus[vcpuId];
        var kHz = (uint)vcpu.Scale(_host.Spec.TscKHz);
        return unchecked(_masterNanoseconds + _clockOffset + PvclockNanoseconds(vcpu.GuestTsc(hostTsc) - vcpu.GuestTsc(_masterTsc), kHz));
    }

    /// <summary>Carries out an ioctl; returns its result or the negated errno.</summary>
    public int Issue(int? vcpuId, KvmIoctl request, nint argument)
    {
        if (IsForeign)
            return -EIO;
        if (vcpuId is { } loaded)
            Vcpus[loaded].Load();
        return (vcpuId, request) switch
        {
            (null, KvmIoctl.GetClock) => GetClock(argument),
            (null, KvmIoctl.SetClock) => SetClock(argument),
            ({ } id, KvmIoctl.GetTscKHz) => (int)Vcpus[id].VirtualKHz,
            ({ } id, KvmIoctl.SetTscKHz) => SetTscKHz(Vcpus[id], (uint)argument),
            ({ } id, KvmIoctl.GetDeviceAttr or KvmIoctl.SetDeviceAttr or KvmIoctl.HasDeviceAttr) => DeviceAttr(Vcpus[id], request, argument),
            ({ } id, KvmIoctl.KvmclockCtrl) => KvmclockCtrl(Vcpus[id]),
            ({ } id, KvmIoctl.GetMsrs or KvmIoctl.SetMsrs) => Msr(Vcpus[id], request, argument),
            _ => -EINVAL,
        };
    }

    /// <summary>
    /// The kernel's <c>kvm_get_time_scale</c> and <c>pvclock_scale_delta</c>, in closed form: the frequency is shifted to lie above 10^9 and
    /// not above 2 * 10^9, and what multiplies is the 32-bit fraction 10^9 / that.
    /// </summary>
    public static ulong PvclockNanoseconds(ulong ticks, uint kHz)
    {
        BigInteger billion = 1_000_000_000, frequency = (BigInteger)kHz * 1000;
        var right = 0;
        while (frequency >> right > 2 * billion)
            right++;
        frequency >>= right;
        var left = 0;
        while (frequency << left <= billion)
            left++;
        var fraction = (billion << 32) / (frequency << left);
        var shifted = left >= right ? ((BigInteger)ticks << (left - right)) & ulong.MaxValue : (BigInteger)ticks >> (right - left);
        return (ulong)(((shifted * fraction) >> 32) & ulong.MaxValue);
    }

    private int GetClock(nint argument)
    {
        var reading = ReadClock();
        Unsafe.InitBlock((void*)argument, 0, 48);
        *(ulong*)argument = reading.Clock;
        *(uint*)(argument + 8) = reading.Flags;
        *(ulong*)(argument + 16) = reading.Realtime;
        *(ulong*)(argument + 24) = reading.HostTsc;
        return 0;
    }

    private int SetClock(nint argument)
    {
        var clock = *(ulong*)argument;
        var flags = *(uint*)(argument + 8);
        var realtime = *(ulong*)(argument + 16);
        if ((flags & ~0xEu) != 0)
            return -EINVAL;
        UpdateMasterClock();
        var raw = MasterClock ? _masterNanoseconds : _host.KvmclockBase;
        _host.Time.Advance(SettingPicoseconds);
        if ((flags & Realtime) != 0 && _host.Realtime > realtime)
            clock += _host.Realtime - realtime;
        _clockOffset = unchecked(clock - raw);
        return 0;
    }

    private int DeviceAttr(SimulatedVcpu vcpu, KvmIoctl request, nint argument)
    {
        if (_host.Spec.OffsetErrno != 0)
            return -_host.Spec.OffsetErrno;
        var group = *(uint*)(argument + 4);
        var attribute = *(ulong*)(argument + 8);
        if (group != 0 || attribute != 0)
            return -ENXIO;
        var value = *(ulong**)(argument + 16);
        if (request == KvmIoctl.GetDeviceAttr)
            *value = vcpu.Offset;
        else if (request == KvmIoctl.SetDeviceAttr)
            Synchronize(vcpu, *value);
        return 0;
    }

    private static int KvmclockCtrl(SimulatedVcpu vcpu)
    {
        if (!vcpu.HasKvmclock)
            return -EINVAL;
        vcpu.TimesToldOfStop++;
        return 0;
    }

    /// <summary>The MSRs that matter here; returns how many were processed, as the kernel does, which is no error where it is none.</summary>
    private static int Msr(SimulatedVcpu vcpu, KvmIoctl request, nint argument)
    {
        var (count, index) = (*(uint*)argument, *(uint*)(argument + 8));
        var isOther = vcpu.OtherMsrs.ContainsKey(index);
        if (count != 1 || !(isOther || index == TscDeadline || (index == Tsc && request == KvmIoctl.GetMsrs)))
            return 0;
        var data = (ulong*)(argument + 16);
        if (isOther && request == KvmIoctl.GetMsrs)
            *data = vcpu.OtherMsrs[index];
        else if (isOther)
            vcpu.OtherMsrs[index] = *data;
        else if (index == Tsc)
            *data = vcpu.GuestTscNow;
        else if (request == KvmIoctl.GetMsrs)
            *data = vcpu.TscDeadline;
        else
            (vcpu.TscDeadline, vcpu.TscDeadlineOffset) = (*data, vcpu.Offset);
        return 1;
    }

    private int SetTscKHz(SimulatedVcpu vcpu, uint kHz)
    {
        var spec = _host.Spec;
        var maximumRatio = spec.Scaling == TscScaling.Intel ? IntelMaximumRatio : AmdMaximumRatio;
        if (spec.Scaling != TscScaling.None && kHz >= BigInteger.Min(0x7FFFFFFF, ((BigInteger)spec.TscKHz * maximumRatio) >> _host.FractionBits))
            return -EINVAL;
        if (kHz == 0)
            kHz = spec.TscKHz;

        // The kernel keeps the frequency before it finds out that it cannot have it.
        vcpu.VirtualKHz = kHz;
        if (kHz >= (ulong)spec.TscKHz * (1_000_000 - spec.TolerancePpm) / 1_000_000 && kHz <= (ulong)spec.TscKHz * (1_000_000 + spec.TolerancePpm) / 1_000_000)
        {
            vcpu.Ratio = spec.Scaling == TscScaling.None ? 0 : 1UL << _host.FractionBits;
            return 0;
        }

        if (spec.Scaling == TscScaling.None)
        {
            vcpu.CatchUp |= kHz > spec.TscKHz;
            return kHz > spec.TscKHz ? 0 : -EINVAL;
        }

        var ratio = ((BigInteger)kHz << _host.FractionBits) / spec.TscKHz;
        if (ratio == 0 || ratio >= maximumRatio)
            return -EINVAL;
        vcpu.Ratio = (ulong)ratio;
        return 0;
    }

    /// <summary><c>__kvm_synchronize_tsc</c>: vCPUs match when each was written, one after another, with one offset and one frequency.</summary>
    private void Synchronize(SimulatedVcpu vcpu, ulong offset)
    {
        var matches = _lastKHz == vcpu.VirtualKHz && _lastOffset == offset && _generation != 0;
        _lastKHz = vcpu.VirtualKHz;
        _lastOffset = offset;
        vcpu.Offset = offset;
        vcpu.WrittenTsc = vcpu.GuestTscNow;
        vcpu.WrittenAt = _host.RawNanoseconds;
        if (!matches)
        {
            _generation++;
            _matched = 0;
        }
        else if (vcpu.Generation != _generation)
        {
            _matched++;
        }

        vcpu.Generation = _generation;
        _masterClockRequested |= MasterClock || VcpusMatch;
    }

    /// <summary>
    /// <c>kvm_arch_hardware_enable</c>: every vCPU's offset is to make up for it when the vCPU is loaded the next time, and the master clock is off for good from when KVM looks
    /// at it the next time, which is when the guest is entered or the clock set.
    /// </summary>
    private void LoseTsc(ulong before)
    {
        foreach (var vcpu in Vcpus.Values)
            vcpu.HostTicksLost = unchecked(vcpu.HostTicksLost + before - _host.Tsc);
        WasSuspended = true;
        _masterClockRequested = true;
    }

    private void UpdateMasterClock()
    {
        _masterClockRequested = false;
        _masterNanoseconds = _host.KvmclockBase;
        _masterTsc = _host.Tsc;
        MasterClock = ClocksourceIsTsc && VcpusMatch && !WasSuspended;
    }

    private void CatchUp(SimulatedVcpu vcpu)
    {
        var due = unchecked(vcpu.WrittenTsc + (ulong)((UInt128)(_host.RawNanoseconds - vcpu.WrittenAt) * vcpu.VirtualKHz / 1_000_000));
        var behind = unchecked((long)(due - vcpu.GuestTscNow));
        if (behind > 0)
            vcpu.Offset = unchecked(vcpu.Offset + (ulong)behind);
    }
}
