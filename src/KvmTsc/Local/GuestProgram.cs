using KvmTsc.Interop;

namespace KvmTsc.Local;

/// <summary>
/// The guest of our own VMs: a few bytes of real-mode code that read the TSC, store it and halt, over and over.
/// Each vCPU has BX point to a place of its own.
/// </summary>
internal sealed unsafe class GuestProgram : IDisposable
{
    private const int MemorySize = 0x10000;
    private const int ResultsAt = 0x1000;
    private const int ResultSize = sizeof(ulong);

    // Both ranges lie below 4 GiB and outside of the guest's memory; Intel CPUs without unrestricted guests need them for real mode.
    private const uint TssAddress = 0xFFFBD000;
    private const ulong IdentityMapAddress = 0xFFFBC000;

    private static ReadOnlySpan<byte> Code =>
    [
        0x0F, 0x31, // rdtsc
        0x66, 0x89, 0x07, // mov [bx], eax
        0x66, 0x89, 0x57, 0x04, // mov [bx+4], edx
        0xF4, // hlt
        0xEB, 0xF4, // jmp to the start
    ];

    private readonly SafeMapping _memory = SafeMapping.Anonymous(MemorySize);

    /// <summary>How many vCPUs can have a place for their results.</summary>
    public const int MaximumVcpus = (MemorySize - ResultsAt) / ResultSize;

    /// <summary>Gives a VM its memory, with the code at address 0; before its first vCPU.</summary>
    public void Load(SafeDescriptor vm)
    {
        Code.CopyTo(new Span<byte>((void*)_memory.Address, MemorySize));
        Require(LibC.Ioctl(vm, KvmRequest.SetTssAddress, unchecked((nint)TssAddress)), "KVM_SET_TSS_ADDR");
        var identityMap = IdentityMapAddress;
        Require(LibC.Ioctl(vm, KvmRequest.SetIdentityMapAddress, (nint)(&identityMap)), "KVM_SET_IDENTITY_MAP_ADDR");
        var region = new KvmUserspaceMemoryRegion { MemorySize = MemorySize, UserspaceAddress = (ulong)_memory.Address };
        Require(LibC.Ioctl(vm, KvmRequest.SetUserMemoryRegion, (nint)(&region)), "KVM_SET_USER_MEMORY_REGION");
    }

    /// <summary>Points a new vCPU at the code.</summary>
    public static void Start(LocalVcpu vcpu)
    {
        KvmSregs sregs;
        Require(LibC.Ioctl(vcpu.Descriptor, KvmRequest.GetSregs, (nint)(&sregs)), "KVM_GET_SREGS");
        sregs.Cs.Base = 0;
        sregs.Cs.Selector = 0;
        Require(LibC.Ioctl(vcpu.Descriptor, KvmRequest.SetSregs, (nint)(&sregs)), "KVM_SET_SREGS");
        var regs = new KvmRegs { Rbx = (ulong)PlaceOf(vcpu.Id), Rflags = 2 };
        Require(LibC.Ioctl(vcpu.Descriptor, KvmRequest.SetRegs, (nint)(&regs)), "KVM_SET_REGS");
    }

    /// <summary>Has a vCPU read its TSC.</summary>
    public ulong ReadTsc(LocalVcpu vcpu)
    {
        vcpu.RunUntilHalt();
        return *(ulong*)(_memory.Address + PlaceOf(vcpu.Id));
    }

    /// <summary>What the guest, or KVM for it, wrote at an address of its memory.</summary>
    public T Read<T>(ulong address)
        where T : unmanaged
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan(address, (ulong)(MemorySize - sizeof(T)));
        return *(T*)(_memory.Address + (nint)address);
    }

    public void Dispose() => _memory.Dispose();

    private static int PlaceOf(int vcpuId) => ResultsAt + (vcpuId * ResultSize);

    private static void Require(int result, string what)
    {
        if (result < 0)
            throw KvmException.FromErrno(what, -result);
    }
}
