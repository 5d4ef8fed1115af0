using KvmTsc.Arithmetic;
using KvmTsc.Hosts;

namespace KvmTsc.Machines;

/// <summary>A VM on this host.</summary>
public abstract class HostMachine : Machine
{
    /// <inheritdoc/>
    public override KvmHostIdentity Host => LocalHost.Identify(HostTsc.KHz);

    /// <inheritdoc/>
    public override HostAbilities Abilities => LocalHost.Abilities;

    /// <inheritdoc/>
    public override string? ClockSource => LocalHost.ClockSource;

    /// <inheritdoc/>
    public override HostInstant HostNow => HostClock.Now;

    /// <summary>What debugfs tells of it, null where it cannot be read or told.</summary>
    internal abstract VMDebugfs? Debugfs { get; }

    /// <inheritdoc/>
    public override IReadOnlyDictionary<int, long>? ShownOffsets(IReadOnlyList<int> vcpuIds) => Debugfs?.ReadOffsets(vcpuIds);

    /// <inheritdoc/>
    public override TscRatio RatioOf(int vcpuId, uint kHz) => HostTsc.RatioAt(kHz, HostTsc.HasScaling ? Debugfs?.ReadRatio(vcpuId) : null);
}
