using KvmTsc.Hosts;
using KvmTsc.Migration;

namespace KvmTsc.Tests.Simulation;

/// <summary>States that were tampered with.</summary>
internal static class States
{
    public static KvmTscState With(
        this KvmTscState state, ulong? realtime = null, ulong? hostTsc = null, KvmVcpuTscState[]? vcpus = null, KvmHostIdentity? host = null, string? name = null) => new(
        name ?? state.VMName,
        state.ProcessId,
        state.VMId,
        state.Vmm,
        state.ClockNanoseconds,
        realtime ?? state.RealtimeNanoseconds,
        hostTsc ?? state.HostTsc,
        vcpus ?? [.. state.Vcpus],
        host ?? state.Host,
        state.StoppedMicroseconds,
        state.ToolVersion,
        state.ClockErrorNanoseconds);
}
