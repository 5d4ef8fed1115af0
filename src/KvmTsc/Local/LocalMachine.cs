using KvmTsc.Arithmetic;
using KvmTsc.Clocks;
using KvmTsc.Execution;
using KvmTsc.Hosts;
using KvmTsc.Interop;
using KvmTsc.Machines;

namespace KvmTsc.Local;

/// <summary>A VM of this process. Its guest reads its TSC when asked, and does nothing else.</summary>
public sealed class LocalMachine : HostMachine, IDisposable
{
    private readonly SemaphoreSlim _exclusive = new(1, 1);
    private readonly SafeDescriptor _vm;
    private readonly List<LocalVcpu> _vcpus = [];
    private readonly GuestProgram _guest = new();
    private readonly LocalExecutor _executor;
    private bool _guestHasRun;
    private bool _disposed;

    private LocalMachine(string name, SafeDescriptor vm, int vcpuCount, HostTscTraits hostTsc)
    {
        VcpuIds = [.. Enumerable.Range(0, vcpuCount)];
        _vm = vm;
        HostTsc = hostTsc;
        Debugfs = new VMDebugfs($"/sys/kernel/debug/kvm/{LibC.Gettid()}-{vm.Number}");
        Identity = new VMIdentity(name, Environment.ProcessId, $"{Environment.ProcessId}:{vm.Number}");
        _executor = new LocalExecutor(this);
    }

    /// <inheritdoc/>
    public override VMIdentity Identity { get; }

    /// <inheritdoc/>
    public override string Vmm => "KvmTsc";

    /// <inheritdoc/>
    public override IReadOnlyList<int> VcpuIds { get; }

    /// <inheritdoc/>
    public override IVMExecutor Executor => _executor;

    /// <inheritdoc/>
    public override HostTscTraits HostTsc { get; }

    /// <inheritdoc/>
    public override bool GuestHasRun => _guestHasRun;

    /// <inheritdoc/>
    public override bool GuestKeepsTime => false;

    /// <inheritdoc/>
    internal override VMDebugfs Debugfs { get; }

    /// <summary>
    /// Creates a VM. Its kvmclock starts at 0 with the master clock on, so that it can be read as that of a VM that has run.
    /// </summary>
    /// <param name="device">The open <c>/dev/kvm</c>.</param>
    /// <param name="name">Its name.</param>
    /// <param name="vcpuCount">How many vCPUs it has, with ids from 0.</param>
    /// <param name="tscKHz">The guest's TSC frequency, null for the host's.</param>
    /// <exception cref="KvmException">Nothing was created.</exception>
    public static LocalMachine Create(KvmDevice device, string name, int vcpuCount, uint? tscKHz = null)
    {
        var machine = CreateWithoutClock(device, name, vcpuCount);
        try
        {
            if (tscKHz is { } kHz)
                GuestTsc.SetFrequencies(machine, machine.VcpuIds.ToDictionary(id => id, _ => kHz), force: false, CancellationToken.None);
            GuestClock.Set(machine, 0, null, force: true, CancellationToken.None);
            return machine;
        }
        catch
        {
            machine.Dispose();
            throw;
        }
    }

    /// <summary>Creates a VM whose clock is as the kernel makes it: without flags until it is set or the VM runs.</summary>
    internal static LocalMachine CreateWithoutClock(KvmDevice device, string name, int vcpuCount)
    {
        var maximum = Math.Min(device.Check(KvmCapability.MaxVcpus), GuestProgram.MaximumVcpus);
        if (vcpuCount < 1 || vcpuCount > maximum)
        {
            throw new KvmException(
                KvmErrorId.VcpuCountOutOfRange, $"A VM cannot have {vcpuCount} vCPUs on this kernel.", $"Choose from 1 to {maximum}.");
        }

        var hostTsc = HostProbe.TraitsOf(device);
        var machine = new LocalMachine(name, device.CreateVM(), vcpuCount, hostTsc);
        try
        {
            machine._guest.Load(machine._vm);
            var runSize = device.Issue(KvmRequest.GetVcpuMmapSize, 0);
            foreach (var id in machine.VcpuIds)
                machine.AddVcpu(id, runSize);
            return machine;
        }
        catch
        {
            machine.Dispose();
            throw;
        }
    }

    /// <inheritdoc/>
    public override IReadOnlyList<KvmVcpu> DescribeVcpus() =>
        [.. VcpuIds.Select(id => new KvmVcpu(Identity.Name, Identity.ProcessId, Identity.Id, id, threadId: null, KvmVcpuState.Stopped))];

    /// <summary>Runs a vCPU's guest code, which reads its TSC, between two readings of the host's.</summary>
    /// <exception cref="KvmException">There is no such vCPU, the VM was removed, or the guest code did not halt.</exception>
    public (ulong HostTscBefore, ulong GuestTsc, ulong HostTscAfter) ReadGuestTsc(int vcpuId)
    {
        var vcpu = _vcpus.Find(vcpu => vcpu.Id == SelectVcpus([vcpuId])[0])!;
        return Exclusively(
            () =>
            {
                _guestHasRun = true;
                var before = Interop.HostTsc.Read();
                var guest = _guest.ReadTsc(vcpu);
                return (before, guest, Interop.HostTsc.Read());
            },
            CancellationToken.None);
    }

    /// <summary>Reads what the guest, or KVM for it, wrote in its memory.</summary>
    internal T ReadGuest<T>(ulong address)
        where T : unmanaged => Exclusively(() => _guest.Read<T>(address), CancellationToken.None);

    /// <summary>Removes the VM. What uses it afterwards fails with <see cref="KvmErrorId.VMRemoved"/>.</summary>
    public void Dispose()
    {
        _exclusive.Wait();
        try
        {
            _disposed = true;
            foreach (var vcpu in _vcpus)
                vcpu.Dispose();
            _vm.Dispose();
            _guest.Dispose();
        }
        finally
        {
            _exclusive.Release();
        }
    }

    private void AddVcpu(int id, int runSize)
    {
        var vcpu = LocalVcpu.Create(_vm, id, runSize);
        _vcpus.Add(vcpu);
        GuestProgram.Start(vcpu);
    }

    /// <summary>Does something while nobody else is at work in the VM, and it is there.</summary>
    private T Exclusively<T>(Func<T> work, CancellationToken cancellationToken)
    {
        _exclusive.Wait(cancellationToken);
        try
        {
            return _disposed
                ? throw new KvmException(KvmErrorId.VMRemoved, $"{Identity.Name} was removed.", "List the VMs there are with Get-KvmVM.")
                : work();
        }
        finally
        {
            _exclusive.Release();
        }
    }

    /// <summary>Runs batches in this process: the guest stands still because only we run it.</summary>
    private sealed class LocalExecutor(LocalMachine machine) : IVMExecutor
    {
        public Stopped<T> WhileStopped<T>(Func<IVMStop, T> work, CancellationToken cancellationToken, IoctlBatch? first = null) =>
            machine.Exclusively(() => new Stopped<T>(work(new LocalStop(machine)), 0), cancellationToken);
    }

    private sealed class LocalStop(LocalMachine machine) : IVMStop
    {
        public BatchOutcome Run(IoctlBatch batch) => BatchRunner.Run(batch, Issue);

        private int Issue(int? vcpuId, nuint request, nint argument) => LibC.Ioctl(
            vcpuId is { } id ? machine._vcpus[id].Descriptor : machine._vm, request, argument);
    }
}
