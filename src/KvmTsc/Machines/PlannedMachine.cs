using KvmTsc.Arithmetic;
using KvmTsc.Execution;
using KvmTsc.Hosts;

namespace KvmTsc.Machines;

/// <summary>A VM that a host is yet to run: there is nothing to be read or stopped, but the host's rules hold for it.</summary>
/// <param name="host">The host.</param>
/// <param name="vcpuIds">Its vCPUs, ascending.</param>
/// <param name="start">When the host is to get it, where that is not this one, whose clocks can be read.</param>
internal sealed class PlannedMachine(KvmHostInformation host, IReadOnlyList<int> vcpuIds, HostInstant? start = null) : Machine
{
    public override VMIdentity Identity { get; } = new($"a VM of {host.MachineName}", 0, "");

    public override string Vmm => "";

    public override IReadOnlyList<int> VcpuIds => vcpuIds;

    public override IVMExecutor Executor => throw new InvalidOperationException("A VM that is yet to come cannot be stopped.");

    public override KvmHostIdentity Host => start is null ? LocalHost.Identify(HostTsc.KHz) : host.Identity;

    public override HostTscTraits HostTsc => host.HostTsc;

    public override HostAbilities Abilities => host.Abilities;

    public override string? ClockSource => host.ClockSource;

    public override bool GuestHasRun => false;

    public override HostInstant HostNow => start ?? HostClock.Now;

    public override IReadOnlyList<KvmVcpu> DescribeVcpus() => [];
}
