using KvmTsc.Interop;

namespace KvmTsc.Tests.Processes;

public sealed class ProcessMemoryTests
{
    [Fact]
    public void What_is_written_without_force_goes_only_where_the_process_may_write()
    {
        byte[] bytes = [1, 2, 3, 4];
        using var data = SafeMapping.Anonymous(8192);
        Assert.Equal(0, LibC.Mprotect(data.Address + 4096, 4096, LibC.PROT_READ));
        using var code = SafeMapping.Code([0xC3]);
        Assert.True(LibC.TryWriteMemory(Environment.ProcessId, bytes, (ulong)data.Address));
        Assert.Equal(bytes, Read(data.Address, bytes.Length));
        Assert.False(LibC.TryWriteMemory(Environment.ProcessId, bytes, (ulong)code.Address));
        Assert.Equal([0xC3, 0, 0, 0], Read(code.Address, bytes.Length));
        Assert.False(LibC.TryWriteMemory(Environment.ProcessId, bytes, 0));
        Assert.False(LibC.TryWriteMemory(Environment.ProcessId, bytes, unchecked((ulong)-2))); // below the stack pointer of a worker of the kernel's
        Assert.False(LibC.TryWriteMemory(Environment.ProcessId, new byte[8192], (ulong)data.Address));
    }

    private static unsafe byte[] Read(nint address, int length) => new Span<byte>((void*)address, length).ToArray();
}
