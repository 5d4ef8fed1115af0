namespace KvmTsc.Interop;

/// <summary>Reads this host's time stamp counter, for which .NET has no intrinsic.</summary>
internal static unsafe class HostTsc
{
    private static readonly SafeMapping s_code = SafeMapping.Code(
    [
        0x0F, 0xAE, 0xE8, // lfence: nothing before may still be running
        0x0F, 0x31, // rdtsc
        0x48, 0xC1, 0xE2, 0x20, // shl rdx, 32
        0x48, 0x09, 0xD0, // or rax, rdx
        0xC3, // ret
    ]);

    /// <summary>The counter now.</summary>
    public static ulong Read() => ((delegate* unmanaged<ulong>)s_code.Address)();
}
