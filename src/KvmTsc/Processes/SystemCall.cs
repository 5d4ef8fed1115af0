using System.Globalization;
using KvmTsc.Interop;

namespace KvmTsc.Processes;

/// <summary>What a thread does in the kernel, from /proc/PID/task/TID/syscall.</summary>
/// <param name="IsRunning">It runs or is about to: the kernel does not look further.</param>
/// <param name="Number">The system call that it waits in, null if it waits in none.</param>
/// <param name="Arguments">The call's arguments; empty if there is none.</param>
internal readonly record struct SystemCall(bool IsRunning, int? Number, IReadOnlyList<ulong> Arguments)
{
    public const int ReadFile = 0;
    public const int Ioctl = 16;
    private const int ArgumentCount = 6;

    /// <summary>The vCPU's descriptor if it waits in <c>KVM_RUN</c>. The kernel takes 32 bits of either argument, whatever the others are.</summary>
    public int? RunDescriptor => Number == Ioctl && (uint)Arguments[1] == (uint)KvmRequest.Run ? (int)(uint)Arguments[0] : null;

    /// <summary>Reads a thread's, null if it is gone or may not be looked at.</summary>
    public static SystemCall? Read(int processId, int threadId) =>
        KernelFiles.ReadLine($"/proc/{processId}/task/{threadId}/syscall") is { } line ? Parse(line) : null;

    /// <summary>Understands "running", "-1 SP PC", or "NUMBER ARGUMENT... SP PC".</summary>
    public static SystemCall Parse(string line)
    {
        var words = line.Split(' ');
        ulong?[] arguments = [.. words.Skip(1).Take(ArgumentCount).Select(Hexadecimal)];
        return arguments is { Length: ArgumentCount } && !arguments.Contains(null) && int.TryParse(words[0], NumberStyles.None, CultureInfo.InvariantCulture, out var number)
            ? new SystemCall(false, number, [.. arguments.Select(argument => argument!.Value)])
            : new SystemCall(words is ["running"], null, []);
    }

    private static ulong? Hexadecimal(string text) =>
        text.StartsWith("0x", StringComparison.Ordinal)
        && ulong.TryParse(text.AsSpan(2), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out var number)
            ? number
            : null;
}
