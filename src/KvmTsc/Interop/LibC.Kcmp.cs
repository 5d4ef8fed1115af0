using System.Runtime.InteropServices;

namespace KvmTsc.Interop;

internal static partial class LibC
{
    private const long SYS_kcmp = 312;
    private const int KCMP_FILE = 0;

    [LibraryImport("libc", EntryPoint = "syscall")]
    private static partial nint KcmpNative(nint number, nint processId1, nint processId2, nint type, nint index1, nint index2);

    /// <summary>Whether two descriptors are of one open file; null where the kernel does not tell.</summary>
    public static bool? IsSameFile(int processId1, int descriptor1, int processId2, int descriptor2) =>
        KcmpNative((nint)SYS_kcmp, processId1, processId2, KCMP_FILE, descriptor1, descriptor2) switch
        {
            0 => true,
            > 0 => false,
            _ => null,
        };
}
