using KvmTsc.Arithmetic;
using KvmTsc.Interop;
using KvmTsc.Processes;

namespace KvmTsc.Hosts;

/// <summary>What only a VM can tell of its host, asked of one that lives for a moment. The answers hold until the next boot.</summary>
internal sealed record HostProbe(uint TscKHz, bool HasTscOffset)
{
    private static readonly Lock s_lock = new();
    private static HostProbe? s_probe;

    /// <summary>The probe of this host.</summary>
    public static HostProbe Of(KvmDevice device)
    {
        lock (s_lock)
            return s_probe ??= Take(device);
    }

    /// <summary>What the host's TSC is like.</summary>
    public static HostTscTraits TraitsOf(KvmDevice device) => new(
        Of(device).TscKHz,
        device.Check(KvmCapability.TscControl) == 0 ? 0
            : Platform.IsIntel ? HostTscTraits.IntelFractionBits
            : HostTscTraits.AmdFractionBits,
        (uint)(KernelFiles.ReadNumber("/sys/module/kvm/parameters/tsc_tolerance_ppm") ?? HostTscTraits.DefaultTolerancePpm));

    private static HostProbe Take(KvmDevice device)
    {
        using var vm = device.CreateVM();
        var number = LibC.Ioctl(vm, KvmRequest.CreateVcpu, 0);
        if (number < 0)
            throw KvmException.FromErrno("KVM_CREATE_VCPU", -number);
        using var vcpu = new SafeDescriptor(number);
        var kHz = LibC.Ioctl(vcpu, KvmRequest.GetTscKHz, 0);
        if (kHz < 0)
            throw KvmException.FromErrno("KVM_GET_TSC_KHZ", -kHz);

        return new HostProbe((uint)kHz, HasOffset(vcpu));
    }

    /// <summary>There are hosts that say they have the attribute, take what is written, and do nothing with it (kvm_pvm): one that has it gives it back.</summary>
    private static unsafe bool HasOffset(SafeDescriptor vcpu)
    {
        const long Written = -0x123456789ABC;
        var value = Written;
        var attribute = new KvmDeviceAttr { Group = KvmDeviceAttr.VcpuTscControl, Attribute = KvmDeviceAttr.VcpuTscOffset, Address = (ulong)&value };
        if (LibC.Ioctl(vcpu, KvmRequest.HasDeviceAttr, (nint)(&attribute)) < 0 || LibC.Ioctl(vcpu, KvmRequest.SetDeviceAttr, (nint)(&attribute)) < 0)
            return false;
        value = 0;
        return LibC.Ioctl(vcpu, KvmRequest.GetDeviceAttr, (nint)(&attribute)) >= 0 && value == Written;
    }
}
