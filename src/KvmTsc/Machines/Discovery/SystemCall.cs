using KvmTsc.Processes;
using System.Globalization;

namespace KvmTsc.Machines.Discovery;

/// <summary>What a thread does in the kernel, from /proc/PID/task/TID/syscall.</summary>
/// <param name="IsRunning">It runs or is about to: the kernel does not look further.</param>
/// <param name="RunDescriptor">The vCPU's descriptor if it waits in <c>KVM_RUN</c>.</param>
internal readonly record struct SystemCall(bool IsRunning, int? RunDescriptor)
{
    private const string Ioctl = "16";
    private const ulong KvmRun = 0xAE80;

    /// <summary>Reads a thread's, null if it is gone or may not be looked at.</summary>
    public static SystemCall? Read(int processId, int threadId) =>
        KernelFiles.ReadLine($"/proc/{processId}/task/{threadId}/syscall") is { } line ? Parse(line) : null;

    /// <summary>Understands "running", "-1 SP PC", or "NUMBER ARGUMENT... SP PC".</summary>
    public static SystemCall Parse(string line) => line.Split(' ') switch
    {
        ["running"] => new SystemCall(true, null),
        [Ioctl, var descriptor, var request, ..] when Number(request) == KvmRun && Number(descriptor) is { } number => new SystemCall(false, (int)(uint)number),
        _ => new SystemCall(false, null),
    };

    private static ulong? Number(string text) =>
        text.StartsWith("0x", StringComparison.Ordinal)
        && ulong.TryParse(text.AsSpan(2), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out var number)
            ? number
            : null;
}
