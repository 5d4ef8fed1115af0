using KvmTsc.Interop;

namespace KvmTsc.Local;

/// <summary>A vCPU of this process: its descriptor and its <c>struct kvm_run</c>.</summary>
internal sealed class LocalVcpu : IDisposable
{
    private readonly SafeMapping _run;

    private LocalVcpu(int id, SafeDescriptor descriptor, SafeMapping run)
    {
        Id = id;
        Descriptor = descriptor;
        _run = run;
    }

    public int Id { get; }

    public SafeDescriptor Descriptor { get; }

    public static LocalVcpu Create(SafeDescriptor vm, int id, int runSize)
    {
        var number = LibC.Ioctl(vm, KvmRequest.CreateVcpu, id);
        if (number < 0)
            throw CannotCreate(id, -number);
        var descriptor = new SafeDescriptor(number);
        try
        {
            return new LocalVcpu(id, descriptor, SafeMapping.Shared(descriptor, (nuint)runSize));
        }
        catch
        {
            descriptor.Dispose();
            throw;
        }
    }

    /// <summary>Enters the guest until it halts.</summary>
    public unsafe void RunUntilHalt()
    {
        int result;
        do
            result = LibC.Ioctl(Descriptor, KvmRequest.Run, 0);
        while (result == -Errno.EINTR);
        if (result < 0)
            throw KvmException.FromErrno($"KVM_RUN of vCPU {Id}", -result);
        var reason = *(uint*)(_run.Address + KvmExit.ReasonOffset);
        if (reason != KvmExit.Hlt)
        {
            throw new KvmException(
                KvmErrorId.IoctlFailed, $"The guest code on vCPU {Id} ended with KVM exit reason {reason} instead of a halt.", "See the kernel's log (dmesg).") { VcpuId = Id };
        }
    }

    public void Dispose()
    {
        _run.Dispose();
        Descriptor.Dispose();
    }

    private static KvmException CannotCreate(int id, int errno) => errno == Errno.EMFILE
        ? new KvmException(
            KvmErrorId.VcpuCountOutOfRange,
            $"This process may not have as many files open as vCPU {id} needs.",
            "Raise the limit (ulimit -n), or create fewer vCPUs.")
        {
            VcpuId = id,
            ErrorNumber = errno,
        }
        : KvmException.FromErrno($"KVM_CREATE_VCPU {id}", errno);
}
