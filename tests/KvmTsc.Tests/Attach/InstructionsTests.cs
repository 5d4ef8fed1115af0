using System.IO.MemoryMappedFiles;
using KvmTsc.Execution.Attach;
using KvmTsc.Interop;

namespace KvmTsc.Tests.Attach;

/// <summary>The code of a process that its threads are sent through, looked for in this process.</summary>
public sealed class InstructionsTests : IDisposable
{
    private const int CodeSize = 4096;

    // syscall; ret, and mov $15, %eax; syscall
    private static readonly byte[] s_code = [0x0F, 0x05, 0xC3, 0x90, 0xB8, 0x0F, 0x00, 0x00, 0x00, 0x0F, 0x05];

    private readonly string _path = Path.GetTempFileName();

    public void Dispose() => File.Delete(_path);

    [Fact]
    public void A_file_that_was_replaced_in_place_is_searched_anew()
    {
        WriteCodeAt(100);
        using var file = MemoryMappedFile.CreateFromFile(_path, FileMode.Open, null, CodeSize, MemoryMappedFileAccess.ReadExecute);
        using var view = file.CreateViewAccessor(0, CodeSize, MemoryMappedFileAccess.ReadExecute);
        using var memory = new SafeDescriptor(LibC.Open("/proc/self/mem", LibC.O_RDWR | LibC.O_CLOEXEC));
        var maps = MapsOfFile();
        var start = maps.All[0].Start;

        var first = Instructions.Find(maps, memory)!.Value;
        Assert.Equal(new Instructions(start + 100, start + 104), first);
        Assert.True(first.AreIn(memory));

        WriteCodeAt(2000);
        Assert.False(first.AreIn(memory));
        var second = Instructions.Find(maps, memory)!.Value;
        Assert.Equal(new Instructions(start + 2000, start + 2004), second);
        Assert.True(second.AreIn(memory));

        WriteCodeAt(null);
        Assert.False(second.AreIn(memory));
        Assert.Null(Instructions.Find(maps, memory));
    }

    private void WriteCodeAt(int? offset)
    {
        var bytes = new byte[CodeSize];
        if (offset is { } at)
            s_code.CopyTo(bytes, at);
        using var stream = new FileStream(_path, FileMode.Open, FileAccess.Write, FileShare.ReadWrite);
        stream.Write(bytes);
    }

    private ProcessMaps MapsOfFile() => ProcessMaps.Of(File.ReadLines("/proc/self/maps").Where(line => line.EndsWith(_path, StringComparison.Ordinal)));
}
