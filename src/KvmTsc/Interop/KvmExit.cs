namespace KvmTsc.Interop;

/// <summary>What ends a <c>KVM_RUN</c>; the number stands in <c>struct kvm_run</c> at <see cref="ReasonOffset"/>.</summary>
internal static class KvmExit
{
    public const int ReasonOffset = 8;
    public const uint Hlt = 5;
}
