using System.Runtime.InteropServices;

namespace KvmTsc.Interop;

/// <summary>Owns a file descriptor.</summary>
internal sealed class SafeDescriptor : SafeHandle
{
    public SafeDescriptor(int descriptor) : base(-1, ownsHandle: true) => SetHandle(descriptor);

    public override bool IsInvalid => handle < 0;

    public int Number => (int)handle;

    protected override bool ReleaseHandle() => LibC.Close(handle) == 0;
}
