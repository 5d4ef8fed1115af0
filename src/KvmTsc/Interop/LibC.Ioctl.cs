using System.Runtime.InteropServices;

namespace KvmTsc.Interop;

internal static partial class LibC
{
    [LibraryImport("libc", EntryPoint = "ioctl", SetLastError = true)]
    private static partial int IoctlNative(SafeDescriptor descriptor, nuint request, nint argument);

    /// <summary>Issues one ioctl.</summary>
    /// <returns>The result, or the negated errno.</returns>
    public static int Ioctl(SafeDescriptor descriptor, nuint request, nint argument)
    {
        var result = IoctlNative(descriptor, request, argument);
        return result < 0 ? -Marshal.GetLastPInvokeError() : result;
    }
}
