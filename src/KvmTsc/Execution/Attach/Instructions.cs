using System.Collections.Concurrent;
using KvmTsc.Interop;

namespace KvmTsc.Execution.Attach;

/// <summary>Two pieces of code that a process has anyway: a system call that returns, and the return from a signal handler.</summary>
/// <param name="SyscallReturn">The address of <c>syscall; ret</c>.</param>
/// <param name="SignalReturn">The address of <c>mov $15, %rax; syscall</c>.</param>
internal readonly record struct Instructions(ulong SyscallReturn, ulong SignalReturn)
{
    private static readonly byte[] s_syscallReturn = [0x0F, 0x05, 0xC3];
    private static readonly byte[][] s_signalReturns =
    [
        [0x48, 0xC7, 0xC0, 0x0F, 0x00, 0x00, 0x00, 0x0F, 0x05], // mov $15, %rax, as glibc has it
        [0xB8, 0x0F, 0x00, 0x00, 0x00, 0x0F, 0x05], // mov $15, %eax, as musl has it
    ];

    // By file, since processes share it: where in a mapping of that file they are, -1 for nowhere.
    private static readonly ConcurrentDictionary<(string, string, ulong), (long, long)> s_known = new();

    /// <summary>
    /// Whether they still are what they were: a file may be replaced in place, or its mapping be another one by now, and a thread that is sent to code
    /// that is not there takes its process with it.
    /// </summary>
    public bool AreIn(SafeDescriptor memory) => IsSyscallReturn(SyscallReturn, memory) && IsSignalReturn(SignalReturn, memory);

    /// <summary>Finds them, the C library first; null if the process has not both.</summary>
    public static Instructions? Find(ProcessMaps maps, SafeDescriptor memory)
    {
        ulong syscallReturn = 0, signalReturn = 0;
        foreach (var mapping in maps.All.Where(mapping => mapping.IsExecutable && mapping.IsReadable).OrderBy(mapping => IsLibC(mapping.Path) ? 0 : 1))
        {
            var (syscall, signal) = Search(mapping, memory);
            if (syscallReturn == 0 && syscall >= 0)
                syscallReturn = mapping.Start + (ulong)syscall;
            if (signalReturn == 0 && signal >= 0)
                signalReturn = mapping.Start + (ulong)signal;
            if (syscallReturn != 0 && signalReturn != 0)
                return new Instructions(syscallReturn, signalReturn);
        }

        return null;
    }

    private static (long Syscall, long Signal) Search(ProcessMaps.Mapping mapping, SafeDescriptor memory)
    {
        var key = (mapping.Device, mapping.Inode, mapping.Offset);
        if (mapping.Inode != "0" && s_known.TryGetValue(key, out var known) && IsStillThere(known, mapping, memory))
            return known;
        var text = new byte[mapping.End - mapping.Start];
        if (!LibC.Pread(memory, text, mapping.Start))
            return (-1, -1);
        var found = ((long)text.AsSpan().IndexOf(s_syscallReturn), (long)s_signalReturns.Max(code => text.AsSpan().IndexOf(code)));
        if (mapping.Inode != "0")
            s_known[key] = found;
        return found;
    }

    /// <summary>Whether what was found once in a file is in a mapping of it now; where there was nothing, there is nothing to send a thread to.</summary>
    private static bool IsStillThere((long Syscall, long Signal) known, ProcessMaps.Mapping mapping, SafeDescriptor memory) =>
        (known.Syscall < 0 || IsSyscallReturn(mapping.Start + (ulong)known.Syscall, memory))
        && (known.Signal < 0 || IsSignalReturn(mapping.Start + (ulong)known.Signal, memory));

    private static bool IsSyscallReturn(ulong address, SafeDescriptor memory) => IsAt(address, s_syscallReturn, memory);

    private static bool IsSignalReturn(ulong address, SafeDescriptor memory) => Array.Exists(s_signalReturns, code => IsAt(address, code, memory));

    private static bool IsAt(ulong address, byte[] code, SafeDescriptor memory)
    {
        Span<byte> found = stackalloc byte[16];
        found = found[..code.Length];
        return LibC.Pread(memory, found, address) && found.SequenceEqual(code);
    }

    private static bool IsLibC(string path) =>
        path.Contains("/libc.", StringComparison.Ordinal) || path.Contains("/libc-", StringComparison.Ordinal) || path.Contains("ld-musl", StringComparison.Ordinal);
}
