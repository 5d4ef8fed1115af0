using System.Runtime.InteropServices;

namespace KvmTsc.Interop;

/// <summary><c>struct kvm_device_attr</c>; <see cref="Address"/> points to the value.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct KvmDeviceAttr
{
    /// <summary><c>KVM_VCPU_TSC_CTRL</c>.</summary>
    public const uint VcpuTscControl = 0;

    /// <summary><c>KVM_VCPU_TSC_OFFSET</c>.</summary>
    public const ulong VcpuTscOffset = 0;

    public uint Flags;
    public uint Group;
    public ulong Attribute;
    public ulong Address;
}
