using System.Globalization;
using System.Text;
using KvmTsc.Interop;
using Microsoft.Win32.SafeHandles;

namespace KvmTsc.Processes;

/// <summary>What SELinux's policy says of a process, asked as libselinux asks it: security/selinux/selinuxfs.c.</summary>
internal static class SELinux
{
    private const string Root = "/sys/fs/selinux";
    private const int DomainIsPermissive = 1;

    /// <summary>Whether the policy is enforced, and forbids a process to do something to itself.</summary>
    /// <param name="processId">The process.</param>
    /// <param name="kind">The class, <c>process</c>.</param>
    /// <param name="permission">The permission, such as <c>execmem</c>.</param>
    public static bool Forbids(int processId, string kind, string permission)
    {
        if (KernelFiles.ReadLine($"{Root}/enforce") != "1"
            || KernelFiles.ReadLine($"/proc/{processId}/attr/current")?.TrimEnd('\0') is not { Length: > 0 } context
            || KernelFiles.ReadNumber($"{Root}/class/{kind}/index") is not { } index
            || KernelFiles.ReadNumber($"{Root}/class/{kind}/perms/{permission}") is not { } bit)
            return false;
        var bits = 1U << ((int)bit - 1);
        return Ask($"{context} {context} {index} {bits:x}") is { } answer && (answer.Flags & DomainIsPermissive) == 0 && (answer.Allowed & bits) == 0;
    }

    /// <summary>What is allowed is the first number of the answer, in hexadecimal, flags are the last.</summary>
    private static (uint Allowed, uint Flags)? Ask(string question)
    {
        var descriptor = LibC.Open($"{Root}/access", LibC.O_RDWR | LibC.O_CLOEXEC);
        if (descriptor < 0)
            return null;
        using var file = new SafeFileHandle(descriptor, ownsHandle: true);
        var buffer = new byte[256];
        try
        {
            RandomAccess.Write(file, Encoding.ASCII.GetBytes(question), 0);
            var words = Encoding.ASCII.GetString(buffer, 0, RandomAccess.Read(file, buffer, 0)).TrimEnd('\0').Split(' ');
            return uint.TryParse(words[0], NumberStyles.HexNumber, CultureInfo.InvariantCulture, out var allowed)
                && uint.TryParse(words[^1], NumberStyles.HexNumber, CultureInfo.InvariantCulture, out var flags)
                ? (allowed, flags)
                : null;
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }
}
