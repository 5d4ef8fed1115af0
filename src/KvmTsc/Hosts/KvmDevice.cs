using System.Runtime.InteropServices;
using KvmTsc.Interop;
using KvmTsc.Processes;

namespace KvmTsc.Hosts;

/// <summary>An open <c>/dev/kvm</c>.</summary>
public sealed class KvmDevice : IDisposable
{
    /// <summary>Where the kernel has it.</summary>
    public const string DefaultPath = "/dev/kvm";

    internal const int ApiVersion = 12;

    private readonly SafeDescriptor _descriptor;

    private KvmDevice(SafeDescriptor descriptor) => _descriptor = descriptor;

    /// <summary>Opens it.</summary>
    /// <param name="path">Another device than <see cref="DefaultPath"/>.</param>
    /// <exception cref="KvmException">This machine or this user cannot use KVM.</exception>
    public static KvmDevice Open(string path = DefaultPath)
    {
        Platform.Require(OperatingSystem.IsLinux(), RuntimeInformation.ProcessArchitecture);
        var descriptor = LibC.Open(path, LibC.O_RDWR | LibC.O_CLOEXEC);
        if (descriptor < 0)
            throw CannotOpen(path, -descriptor);
        var device = new KvmDevice(new SafeDescriptor(descriptor));
        var version = device.Issue(KvmRequest.GetApiVersion, 0);
        if (version == ApiVersion)
            return device;
        device.Dispose();
        throw new KvmException(
            KvmErrorId.KvmApiVersion,
            version < 0 ? $"{path} is not KVM: {Marshal.GetPInvokeErrorMessage(-version)}." : $"{path} speaks KVM API version {version}; KvmTsc knows {ApiVersion}.",
            "KVM's API has been at version 12 since Linux 2.6.22: see what this device is.");
    }

    /// <inheritdoc/>
    public void Dispose() => _descriptor.Dispose();

    /// <summary><c>KVM_CHECK_EXTENSION</c>: 0 for what the kernel does not have.</summary>
    internal int Check(KvmCapability capability) => Math.Max(0, Issue(KvmRequest.CheckExtension, (nint)capability));

    /// <summary>Issues an ioctl on the device; returns its result or the negated errno.</summary>
    internal int Issue(nuint request, nint argument) => LibC.Ioctl(_descriptor, request, argument);

    /// <summary>Creates a VM, and does so again when a signal interrupted the kernel.</summary>
    internal SafeDescriptor CreateVM()
    {
        int result;
        do
            result = Issue(KvmRequest.CreateVM, 0);
        while (result == -Errno.EINTR);
        return result >= 0 ? new SafeDescriptor(result) : throw KvmException.FromErrno("KVM_CREATE_VM", -result);
    }

    private static KvmException CannotOpen(string path, int errno) => errno switch
    {
        Errno.ENOENT or Errno.ENODEV or Errno.ENXIO => new KvmException(
            KvmErrorId.NoKvmDevice,
            $"There is no {path}: this machine has no KVM, or its module is not loaded.",
            "Load it (modprobe kvm_amd, or modprobe kvm_intel); if that fails, enable virtualisation (SVM, VT-x) in the firmware, or nested virtualisation if this is a VM itself.")
        {
            ErrorNumber = errno,
        },
        Errno.EACCES or Errno.EPERM => new KvmException(
            KvmErrorId.KvmAccessDenied,
            $"{CurrentUser.Name} may not open {path}.",
            $"Join the group kvm (sudo usermod -aG kvm {Environment.UserName}, then log in again), or run as root.")
        {
            ErrorNumber = errno,
        },
        _ => KvmException.FromErrno($"Opening {path}", errno),
    };
}
