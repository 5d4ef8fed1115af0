namespace KvmTsc.Interop;

/// <summary>The KVM ioctls used here, include/uapi/linux/kvm.h.</summary>
internal static class KvmRequest
{
    private const byte Kvm = 0xAE;

    public static readonly nuint GetApiVersion = Ioctl.Io(Kvm, 0x00);
    public static readonly nuint CreateVM = Ioctl.Io(Kvm, 0x01);
    public static readonly nuint CheckExtension = Ioctl.Io(Kvm, 0x03);
    public static readonly nuint GetVcpuMmapSize = Ioctl.Io(Kvm, 0x04);

    public static readonly nuint CreateVcpu = Ioctl.Io(Kvm, 0x41);
    public static readonly nuint SetUserMemoryRegion = Ioctl.Iow<KvmUserspaceMemoryRegion>(Kvm, 0x46);
    public static readonly nuint SetTssAddress = Ioctl.Io(Kvm, 0x47);
    public static readonly nuint SetIdentityMapAddress = Ioctl.Iow<ulong>(Kvm, 0x48);
    public static readonly nuint SetClock = Ioctl.Iow<KvmClockData>(Kvm, 0x7B);
    public static readonly nuint GetClock = Ioctl.Ior<KvmClockData>(Kvm, 0x7C);

    public static readonly nuint Run = Ioctl.Io(Kvm, 0x80);
    public static readonly nuint SetRegs = Ioctl.Iow<KvmRegs>(Kvm, 0x82);
    public static readonly nuint GetSregs = Ioctl.Ior<KvmSregs>(Kvm, 0x83);
    public static readonly nuint SetSregs = Ioctl.Iow<KvmSregs>(Kvm, 0x84);
    public static readonly nuint GetMsrs = Ioctl.Iowr<KvmMsr.Header>(Kvm, 0x88);
    public static readonly nuint SetMsrs = Ioctl.Iow<KvmMsr.Header>(Kvm, 0x89);
    public static readonly nuint SetTscKHz = Ioctl.Io(Kvm, 0xA2);
    public static readonly nuint GetTscKHz = Ioctl.Io(Kvm, 0xA3);
    public static readonly nuint KvmclockCtrl = Ioctl.Io(Kvm, 0xAD);

    public static readonly nuint SetDeviceAttr = Ioctl.Iow<KvmDeviceAttr>(Kvm, 0xE1);
    public static readonly nuint GetDeviceAttr = Ioctl.Iow<KvmDeviceAttr>(Kvm, 0xE2);
    public static readonly nuint HasDeviceAttr = Ioctl.Iow<KvmDeviceAttr>(Kvm, 0xE3);

    /// <summary>Those that batches are made of, to a VM and to its vCPUs.</summary>
    public static readonly (nuint[] VM, nuint[] Vcpu) OfBatches =
        ([GetClock, SetClock], [GetMsrs, SetMsrs, SetTscKHz, GetTscKHz, KvmclockCtrl, SetDeviceAttr, GetDeviceAttr, HasDeviceAttr]);

    private static readonly Dictionary<nuint, string> s_names = new()
    {
        [GetApiVersion] = "KVM_GET_API_VERSION",
        [CreateVM] = "KVM_CREATE_VM",
        [CheckExtension] = "KVM_CHECK_EXTENSION",
        [GetVcpuMmapSize] = "KVM_GET_VCPU_MMAP_SIZE",
        [CreateVcpu] = "KVM_CREATE_VCPU",
        [SetUserMemoryRegion] = "KVM_SET_USER_MEMORY_REGION",
        [SetTssAddress] = "KVM_SET_TSS_ADDR",
        [SetIdentityMapAddress] = "KVM_SET_IDENTITY_MAP_ADDR",
        [SetClock] = "KVM_SET_CLOCK",
        [GetClock] = "KVM_GET_CLOCK",
        [Run] = "KVM_RUN",
        [SetRegs] = "KVM_SET_REGS",
        [GetSregs] = "KVM_GET_SREGS",
        [SetSregs] = "KVM_SET_SREGS",
        [GetMsrs] = "KVM_GET_MSRS",
        [SetMsrs] = "KVM_SET_MSRS",
        [SetTscKHz] = "KVM_SET_TSC_KHZ",
        [GetTscKHz] = "KVM_GET_TSC_KHZ",
        [KvmclockCtrl] = "KVM_KVMCLOCK_CTRL",
        [SetDeviceAttr] = "KVM_SET_DEVICE_ATTR",
        [GetDeviceAttr] = "KVM_GET_DEVICE_ATTR",
        [HasDeviceAttr] = "KVM_HAS_DEVICE_ATTR",
    };

    /// <summary>The kernel's name of a request, for messages.</summary>
    public static string NameOf(nuint request) => s_names.TryGetValue(request, out var name) ? name : $"ioctl 0x{request:X}";

    /// <summary>Every request by its kernel name, for the test against the system's header.</summary>
    internal static IEnumerable<KeyValuePair<string, ulong>> All => s_names.Select(pair => KeyValuePair.Create(pair.Value, (ulong)pair.Key));
}
