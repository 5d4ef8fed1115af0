using System.Runtime.InteropServices;

namespace KvmTsc.Interop;

/// <summary>Owns a memory mapping.</summary>
internal sealed class SafeMapping : SafeHandle
{
    private SafeMapping(nint address, nuint length) : base(-1, ownsHandle: true)
    {
        SetHandle(address);
        Length = length;
    }

    public override bool IsInvalid => handle == -1;

    public nuint Length { get; }

    public nint Address => handle;

    /// <summary>Maps zeroed memory of this process.</summary>
    public static SafeMapping Anonymous(nuint length) =>
        Map(length, LibC.PROT_READ | LibC.PROT_WRITE, LibC.MAP_PRIVATE | LibC.MAP_ANONYMOUS, descriptor: -1);

    /// <summary>Maps what a descriptor offers, such as <c>struct kvm_run</c>.</summary>
    public static SafeMapping Shared(SafeDescriptor descriptor, nuint length) =>
        Map(length, LibC.PROT_READ | LibC.PROT_WRITE, LibC.MAP_SHARED, descriptor.Number);

    /// <summary>Maps machine code, never writable and executable at once.</summary>
    public static unsafe SafeMapping Code(ReadOnlySpan<byte> code)
    {
        var mapping = Anonymous(4096);
        code.CopyTo(new Span<byte>((void*)mapping.Address, (int)mapping.Length));
        if (LibC.Mprotect(mapping.Address, mapping.Length, LibC.PROT_READ | LibC.PROT_EXEC) == 0)
            return mapping;
        var error = Marshal.GetLastPInvokeError();
        mapping.Dispose();
        throw KvmException.FromErrno("mprotect of executable memory", error);
    }

    protected override bool ReleaseHandle() => LibC.Munmap(handle, Length) == 0;

    private static SafeMapping Map(nuint length, int protection, int flags, int descriptor)
    {
        var address = LibC.Mmap(0, length, protection, flags, descriptor, 0);
        return address == -1
            ? throw KvmException.FromErrno($"mmap of {length} bytes", Marshal.GetLastPInvokeError())
            : new SafeMapping(address, length);
    }
}
