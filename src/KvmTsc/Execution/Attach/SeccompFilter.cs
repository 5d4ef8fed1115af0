using System.Runtime.InteropServices;
using KvmTsc.Interop;
using KvmTsc.Processes;

namespace KvmTsc.Execution.Attach;

/// <summary>The seccomp filters of a thread, and what they say to a system call: seccomp(2).</summary>
internal sealed class SeccompFilter : IEquatable<SeccompFilter>
{
    private const uint X64 = 0xC000003E; // AUDIT_ARCH_X86_64
    private const uint ActionMask = 0xFFFF0000;
    private const uint Allow = 0x7FFF0000;
    private const uint Log = 0x7FFC0000;

    private readonly ClassicBpf.Instruction[][] _programs;

    /// <param name="programs">Their programs, all of which are asked.</param>
    public SeccompFilter(params ClassicBpf.Instruction[][] programs) => _programs = programs;

    /// <summary>What a filter looks at, struct seccomp_data in linux/seccomp.h.</summary>
    [StructLayout(LayoutKind.Sequential)]
    private struct Data
    {
        public int Number;
        public uint Architecture;
        public ulong InstructionPointer, Arg0, Arg1, Arg2, Arg3, Arg4, Arg5;
    }

    /// <summary>Reads those of a thread that stands still; null where the kernel does not tell.</summary>
    public static SeccompFilter? Of(TracedThread thread)
    {
        var programs = new List<ClassicBpf.Instruction[]>();
        int error;
        while ((error = thread.ReadSeccompFilter(programs.Count, out var program)) == 0)
            programs.Add(program);
        return error == Errno.ENOENT || ProcessStatus.Read($"/proc/{thread.ThreadId}") is { Seccomp: 0 } ? new SeccompFilter([.. programs]) : null;
    }

    /// <summary>Whether they let a system call pass.</summary>
    /// <param name="call">The call.</param>
    /// <param name="instructionPointer">Where it comes from.</param>
    public bool Allows(SignalFrames.Call call, ulong instructionPointer)
    {
        var data = new Data
        {
            Number = call.Number,
            Architecture = X64,
            InstructionPointer = instructionPointer,
            Arg0 = call.Arg0,
            Arg1 = call.Arg1,
            Arg2 = call.Arg2,
            Arg3 = call.Arg3,
            Arg4 = call.Arg4,
            Arg5 = call.Arg5,
        };
        var bytes = MemoryMarshal.AsBytes(new ReadOnlySpan<Data>(in data));
        foreach (var program in _programs)
        {
            if (ClassicBpf.Run(program, bytes) is not { } result || (result & ActionMask) is not (Allow or Log))
                return false;
        }

        return true;
    }

    /// <inheritdoc/>
    public bool Equals(SeccompFilter? other) =>
        other is not null && _programs.Length == other._programs.Length && _programs.Zip(other._programs).All(pair => pair.First.AsSpan().SequenceEqual(pair.Second));

    /// <inheritdoc/>
    public override bool Equals(object? obj) => Equals(obj as SeccompFilter);

    /// <inheritdoc/>
    public override int GetHashCode() => _programs.Length;
}
