using KvmTsc.Arithmetic;
using KvmTsc.Clocks;
using KvmTsc.Execution;
using KvmTsc.Hosts;
using KvmTsc.Machines;
using KvmTsc.Migration;

namespace KvmTsc.Torture;

/// <summary>Works on the target's VM, through the engine as anybody would.</summary>
/// <param name="machine">The VM.</param>
/// <param name="hasRun">Whether it has run: of a VM that has not, no state can be saved, since its clock has no triple.</param>
/// <param name="executor">What to use instead of its executor.</param>
internal sealed class KvmWork(Machine machine, bool hasRun, IVMExecutor? executor = null) : IWork
{
    private readonly Machine _machine = executor is null ? machine : new OtherExecutor(machine, executor);

    public IReadOnlyList<long> Read(out double stoppedMicroseconds)
    {
        (var offsets, stoppedMicroseconds) = Patiently(Read);
        return offsets;
    }

    public double Write(long offset)
    {
        var offsets = _machine.VcpuIds.ToDictionary(id => id, _ => offset);
        return Patiently(() => GuestTsc.SetOffsets(_machine, offsets, force: true, CancellationToken.None))[0].StoppedMicroseconds;
    }

    private (IReadOnlyList<long> Offsets, double StoppedMicroseconds) Read()
    {
        if (!hasRun)
        {
            var offsets = GuestTsc.ReadOffsets(_machine, null, CancellationToken.None);
            return ([.. offsets.Select(vcpu => vcpu.OffsetTicks)], offsets[0].StoppedMicroseconds);
        }

        var state = KvmTscState.Save(_machine, force: false, CancellationToken.None);
        if (state.Vcpus.Any(vcpu => vcpu.TscKHz != _machine.HostTsc.KHz))
            throw new InvalidDataException($"TSC frequencies {string.Join(", ", state.Vcpus.Select(vcpu => vcpu.TscKHz))} instead of {_machine.HostTsc.KHz} kHz");
        return ([.. state.Vcpus.Select(vcpu => vcpu.OffsetTicks)], state.StoppedMicroseconds);
    }

    /// <summary>On a host that is slow a stop may take too long, and is given up, with nothing done.</summary>
    private static T Patiently<T>(Func<T> work)
    {
        const int MostAttempts = 10;
        for (var attempts = 1; ; attempts++)
        {
            try
            {
                return work();
            }
            catch (KvmException exception) when (exception.ErrorId == KvmErrorId.AttachFailed && attempts < MostAttempts)
            {
                Console.Error.WriteLine($"    tried again: {exception.Message}");
            }
        }
    }

    private sealed class OtherExecutor(Machine machine, IVMExecutor executor) : Machine
    {
        public override VMIdentity Identity => machine.Identity;

        public override string Vmm => machine.Vmm;

        public override IReadOnlyList<int> VcpuIds => machine.VcpuIds;

        public override IVMExecutor Executor => executor;

        public override KvmHostIdentity Host => machine.Host;

        public override HostTscTraits HostTsc => machine.HostTsc;

        public override HostAbilities Abilities => machine.Abilities;

        public override string? ClockSource => machine.ClockSource;

        public override bool GuestHasRun => machine.GuestHasRun;

        public override HostInstant HostNow => machine.HostNow;

        public override IReadOnlyList<KvmVcpu> DescribeVcpus() => machine.DescribeVcpus();
    }
}
