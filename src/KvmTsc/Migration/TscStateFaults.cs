using System.Text;
using KvmTsc.Arithmetic;
using KvmTsc.Hosts;

namespace KvmTsc.Migration;

/// <summary>What no kernel can have given, found in a state that may come from anywhere.</summary>
internal static class TscStateFaults
{
    public const int MaximumTextLength = 4096;

    /// <summary><c>PID_MAX_LIMIT</c>, include/linux/threads.h.</summary>
    public const int MaximumProcessId = 4 * 1024 * 1024;

    /// <summary><c>KVM_MAX_VCPU_IDS</c> at its largest, arch/x86/include/asm/kvm_host.h.</summary>
    public const int VcpuIdLimit = 4 * 4096;

    public const int MaximumFractionBits = 63;

    /// <summary>CLOCK_REALTIME is a signed number of nanoseconds.</summary>
    private const ulong MaximumRealtime = long.MaxValue;

    /// <summary>All bits of adjtimex(2)'s status word.</summary>
    private const int MaximumClockStatus = 0xFFFF;

    /// <summary>A tenth by the tick and 500 ppm by the frequency, the most that adjtimex(2) takes.</summary>
    private const double MaximumSlewPpm = 100_500;

    /// <summary><c>MAX_TAI_OFFSET</c>, kernel/time/ntp.c.</summary>
    private const int MaximumTaiOffsetSeconds = 100_000;

    /// <summary>The first fault, null if there is none.</summary>
    public static string? First(KvmTscState state) => All(state).FirstOrDefault();

    private static IEnumerable<string> All(KvmTscState state) => Missing(state) is { } missing
        ? [missing]
        : OfVM(state).Concat(OfClock(state)).Concat(OfHost(state.Host)).Concat(state.Vcpus.SelectMany(vcpu => OfVcpu(vcpu, state.Host)));

    private static string? Missing(KvmTscState state)
    {
        if (state.Host is null)
            return "it does not say which host it was captured on";
        if (state.Vcpus is null || state.Vcpus.Count == 0)
            return "it has no vCPUs";
        return state.Vcpus.Contains(null!) ? "one of its vCPUs has no values" : null;
    }

    private static IEnumerable<string> OfVM(KvmTscState state)
    {
        if (!IsText(state.VMName) || !IsText(state.VMId) || !IsText(state.Vmm) || !IsText(state.ToolVersion))
            yield return "VMName, VMId, Vmm or ToolVersion is no text, or too long";
        if (state.ProcessId is < 1 or > MaximumProcessId)
            yield return $"ProcessId is {state.ProcessId}";
        if (state.Vcpus.Select(vcpu => vcpu.VcpuId).Distinct().Count() != state.Vcpus.Count)
            yield return "a vCPU stands in it twice";
        if (!(state.StoppedMicroseconds >= 0 && double.IsFinite(state.StoppedMicroseconds)))
            yield return $"StoppedMicroseconds is {state.StoppedMicroseconds}";
        if (state.ClockErrorNanoseconds is { } error && !(error >= 0 && double.IsFinite(error)))
            yield return $"ClockErrorNanoseconds is {error}";
    }

    private static IEnumerable<string> OfClock(KvmTscState state)
    {
        if (state.RealtimeNanoseconds == 0 || state.HostTsc == 0)
            yield return "it has no host TSC or no CLOCK_REALTIME";
        if (state.RealtimeNanoseconds > MaximumRealtime)
            yield return $"RealtimeNanoseconds is {state.RealtimeNanoseconds}, more than CLOCK_REALTIME can be";
    }

    private static IEnumerable<string> OfHost(KvmHostIdentity host)
    {
        if (!IsText(host.MachineName) || !IsText(host.MachineId) || !IsText(host.BootId) || !IsText(host.KernelRelease))
            yield return "the host's MachineName, MachineId, BootId or KernelRelease is no text, or too long";
        if (host.TscKHz == 0)
            yield return "the host has a TSC of 0 kHz";
        if (host.ClockStatus is < 0 or > MaximumClockStatus)
            yield return $"the host's ClockStatus is {host.ClockStatus}";
        if (host.MaxErrorMicroseconds < 0)
            yield return $"the host's MaxErrorMicroseconds is {host.MaxErrorMicroseconds}";
        if (!(Math.Abs(host.SlewPpm) <= MaximumSlewPpm))
            yield return $"the host's SlewPpm is {host.SlewPpm}";
        object?[] clocks = [host.HostTsc, host.RealtimeNanoseconds, host.MonotonicRawNanoseconds, host.SuspendedNanoseconds, host.IsVirtual];
        if (clocks.Contains(null) && clocks.Any(clock => clock is not null))
            yield return "the host has some of the clocks HostTsc, RealtimeNanoseconds, MonotonicRawNanoseconds, SuspendedNanoseconds and IsVirtual, and not all";
        if (host.TaiOffsetSeconds is < 0 or > MaximumTaiOffsetSeconds)
            yield return $"the host's TaiOffsetSeconds is {host.TaiOffsetSeconds}";
    }

    private static IEnumerable<string> OfVcpu(KvmVcpuTscState vcpu, KvmHostIdentity host)
    {
        if (vcpu.VcpuId is < 0 or >= VcpuIdLimit)
            yield return $"a vCPU has the id {vcpu.VcpuId}";
        if (vcpu.TscKHz == 0 || vcpu.ScalingFractionBits is < 0 or > MaximumFractionBits)
            yield return $"vCPU {vcpu.VcpuId} has a TSC of {vcpu.TscKHz} kHz and a ratio of {vcpu.ScalingFractionBits} fraction bits";
        if (!IsRatioOf(vcpu.Ratio, vcpu.TscKHz, host.TscKHz))
        {
            yield return $"vCPU {vcpu.VcpuId} has the ratio {vcpu.ScalingRatio} / 2^{vcpu.ScalingFractionBits}, "
                + $"which does not make {vcpu.TscKHz} kHz of the host's {host.TscKHz} kHz";
        }
    }

    /// <summary>
    /// Whether a guest of this frequency can have this ratio: none without scaling, one to one within KVM's tolerance, else what makes its
    /// frequency, to the kHz, of the host's.
    /// </summary>
    private static bool IsRatioOf(TscRatio ratio, uint guestKHz, uint hostKHz) => ratio.FractionBits == 0
        ? ratio.Multiplier == 0
        : ratio.Multiplier != 0 && (!ratio.Scales || Int128.Abs((Int128)(((UInt128)ratio.Multiplier * hostKHz) >> ratio.FractionBits) - guestKHz) <= 1);

    private static bool IsText(string? text) => text is null || (text.Length <= MaximumTextLength && IsUtf16(text));

    private static bool IsUtf16(ReadOnlySpan<char> text)
    {
        while (!text.IsEmpty)
        {
            if (Rune.DecodeFromUtf16(text, out _, out var length) != System.Buffers.OperationStatus.Done)
                return false;
            text = text[length..];
        }

        return true;
    }
}
