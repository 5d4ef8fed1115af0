namespace KvmTsc.Interop;

/// <summary>The <c>KVM_CAP_*</c> numbers used here.</summary>
internal enum KvmCapability
{
    MaxVcpus = 66,
    AdjustClock = 39,
    TscControl = 60,
    GetTscKHz = 61,
    KvmclockCtrl = 76,
    VcpuAttributes = 127,
    VMTscControl = 214,
}
