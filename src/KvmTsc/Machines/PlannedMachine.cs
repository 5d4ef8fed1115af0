using KvmTsc.Arithmetic;
using KvmTsc.Execution;
using KvmTsc.Hosts;

namespace KvmTsc.Machines;

/// <summary>A VM that this host is yet to run: there is nothing to be read or stopped, but the host's rules hold for it.</summary>
internal sealed class PlannedMachine(IReadOnlyList<int> vcpuIds) : HostMachine
{
    public override VMIdentity Identity { get; } = new("a VM of this host", 0, "");

    public override string Vmm => "";

    public override IReadOnlyList<int> VcpuIds => vcpuIds;

    public override IVMExecutor Executor => throw new InvalidOperationException("A VM that is yet to come cannot be stopped.");

    public override HostTscTraits HostTsc { get; } = LocalHost.Tsc;

    public override bool GuestHasRun => false;

    internal override VMDebugfs? Debugfs => null;

    public override IReadOnlyList<KvmVcpu> DescribeVcpus() => [];
}
