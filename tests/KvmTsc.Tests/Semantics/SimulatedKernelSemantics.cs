using KvmTsc.Machines;
using KvmTsc.Tests.Simulation;

namespace KvmTsc.Tests.Semantics;

/// <summary>The simulated host, without scaling.</summary>
public sealed class SimulatedKernelSemantics : KernelSemantics
{
    private protected override Machine CreateWithoutClock(int vcpuCount) => Simulated.CreateWithoutClock(TscScaling.None, vcpuCount);

    private protected override void RunGuest(Machine machine) => ((SimulatedMachine)machine).RunGuest();
}

/// <summary>The simulated host with Intel's scaling.</summary>
public sealed class SimulatedIntelKernelSemantics : KernelSemantics
{
    private protected override Machine CreateWithoutClock(int vcpuCount) => Simulated.CreateWithoutClock(TscScaling.Intel, vcpuCount);

    private protected override void RunGuest(Machine machine) => ((SimulatedMachine)machine).RunGuest();
}

internal static class Simulated
{
    public static SimulatedMachine CreateWithoutClock(TscScaling scaling, int vcpuCount) =>
        new(new SimulatedHost(HostSpec.Ordinary with { Scaling = scaling }, new SimulatedTime()), [.. Enumerable.Range(0, vcpuCount)]);
}
