using KvmTsc.Arithmetic;
using KvmTsc.Execution;
using KvmTsc.Hosts;
using KvmTsc.Interop;
using KvmTsc.Processes;

namespace KvmTsc.Machines;

/// <summary>A VM that can be worked on, whoever runs it.</summary>
public abstract class Machine
{
    /// <summary>Which VM it is.</summary>
    public abstract VMIdentity Identity { get; }

    /// <summary>The program that runs it.</summary>
    public abstract string Vmm { get; }

    /// <summary>Its vCPUs, ascending.</summary>
    public abstract IReadOnlyList<int> VcpuIds { get; }

    /// <summary>Where its ioctls run.</summary>
    public abstract IVMExecutor Executor { get; }

    /// <summary>The host it runs on.</summary>
    public abstract KvmHostIdentity Host { get; }

    /// <summary>What the host's TSC is like.</summary>
    public abstract HostTscTraits HostTsc { get; }

    /// <summary>What the kernel of its host has of what clocks are migrated by.</summary>
    public abstract HostAbilities Abilities { get; }

    /// <summary>The clocksource of its host, null where it cannot be told.</summary>
    public abstract string? ClockSource { get; }

    /// <summary>Whether its guest ever ran: time may go backwards only for a guest that has not seen any.</summary>
    public abstract bool GuestHasRun { get; }

    /// <summary>Whether its guest keeps time: that of a VM of this process only reads its TSC when it is told to.</summary>
    public virtual bool GuestKeepsTime => true;

    /// <summary>The TSC and CLOCK_REALTIME of its host.</summary>
    public abstract HostInstant HostNow { get; }

    /// <summary>The instant at which a clock was read; where KVM does not say, it was just now.</summary>
    internal HostInstant InstantOf(KvmClockData clock) => clock.HasTriple ? new HostInstant(clock.HostTsc, clock.Realtime) : HostNow;

    /// <summary>The instant at which its host's TSC was, or will be, so much, by what both clocks show now.</summary>
    internal HostInstant InstantAt(ulong hostTsc)
    {
        var now = HostNow;
        return new HostInstant(hostTsc, unchecked(now.Realtime + (ulong)(long)TscArithmetic.NanosecondsIn(TscArithmetic.Distance(now.HostTsc, hostTsc), HostTsc.KHz)));
    }

    /// <summary>How the host's TSC is scaled for a vCPU that has this frequency: what the kernel tells, else what it would compute.</summary>
    public virtual TscRatio RatioOf(int vcpuId, uint kHz) => HostTsc.RatioAt(kHz);

    /// <summary>TSC offsets of vCPUs as the kernel shows them, without an ioctl and without stopping anything; null where it does not.</summary>
    public virtual IReadOnlyDictionary<int, long>? ShownOffsets(IReadOnlyList<int> vcpuIds) => null;

    /// <summary>What keeps KvmTsc from working on it, as far as can be told without trying; null if nothing is known to.</summary>
    public virtual AttachObstacle? FindAttachObstacle(OwnRights? rights = null) => null;

    /// <summary>Its vCPUs with their threads.</summary>
    public abstract IReadOnlyList<KvmVcpu> DescribeVcpus();

    /// <summary>Stops the VM for one batch.</summary>
    /// <returns>For how long it was stopped, in microseconds; results are in the batch.</returns>
    /// <exception cref="KvmException">The batch failed.</exception>
    internal double RunStopped(IoctlBatch batch, CancellationToken cancellationToken) =>
        Executor.WhileStopped(stop => stop.RunOrThrow(batch, Identity.Name), cancellationToken, batch);

    /// <summary>The vCPUs asked for, all if none are named.</summary>
    /// <exception cref="KvmException">One does not exist.</exception>
    public IReadOnlyList<int> SelectVcpus(IReadOnlyCollection<int>? vcpuIds)
    {
        if (vcpuIds is null || vcpuIds.Count == 0)
            return VcpuIds;
        foreach (var id in vcpuIds.Where(id => !VcpuIds.Contains(id)))
            throw NoSuchVcpu(id);
        return [.. vcpuIds.Distinct().Order()];
    }

    private KvmException NoSuchVcpu(int vcpuId) => new(
        KvmErrorId.VcpuNotFound,
        $"{Identity.Name} has no vCPU {vcpuId}. It has {VcpuIds.Count}: {VcpuRange.Format(VcpuIds)}.",
        "List its vCPUs with Get-KvmVcpu.")
    {
        VcpuId = vcpuId,
    };
}
