namespace KvmTsc.Tests.Simulation;

/// <summary>An ioctl that a simulated VM was given.</summary>
/// <param name="Number">How many came before it.</param>
/// <param name="VcpuId">The vCPU, null for the VM.</param>
/// <param name="Request">The request, by the simulation's own numbers.</param>
/// <param name="Result">The result, or the negated errno.</param>
internal readonly record struct SimulatedIoctl(int Number, int? VcpuId, KvmIoctl Request, int Result)
{
    public bool IsWrite => Request is KvmIoctl.SetClock or KvmIoctl.SetDeviceAttr or KvmIoctl.SetTscKHz or KvmIoctl.KvmclockCtrl or KvmIoctl.SetMsrs;

    /// <summary>Whether it is for the guest's convenience, so that nothing depends on its success.</summary>
    public bool IsAttempt => Request is KvmIoctl.KvmclockCtrl || (Request is KvmIoctl.GetMsrs or KvmIoctl.SetMsrs && Msr != 0x10);

    /// <summary>Which batch it was of, counted from the first.</summary>
    public int Batch { get; init; }

    /// <summary>The MSR that is read or written.</summary>
    public uint Msr { get; init; }

    /// <summary>What KVM_GET_CLOCK gave.</summary>
    public SimulatedClockReading? Clock { get; init; }
}

/// <summary>A <c>struct kvm_clock_data</c>, and the true time at which it was read.</summary>
internal sealed record SimulatedClockReading(ulong Clock, uint Flags, ulong Realtime, ulong HostTsc, long Picoseconds);

/// <summary>The requests as include/uapi/linux/kvm.h works out on x86-64, written down and not computed.</summary>
internal enum KvmIoctl : uint
{
    SetClock = 0x4030AE7B,
    GetClock = 0x8030AE7C,
    SetTscKHz = 0xAEA2,
    GetTscKHz = 0xAEA3,
    SetDeviceAttr = 0x4018AEE1,
    GetDeviceAttr = 0x4018AEE2,
    HasDeviceAttr = 0x4018AEE3,
    KvmclockCtrl = 0xAEAD,
    GetMsrs = 0xC008AE88,
    SetMsrs = 0x4008AE89,
}
