using KvmTsc.Processes;
using System.Text;

namespace KvmTsc.Discovery;

/// <summary>What the program and the command line of a VMM tell.</summary>
/// <param name="Vmm">The VMM.</param>
/// <param name="VMName">The VM's name, null if it is not told.</param>
internal sealed record VmmCommandLine(string Vmm, string? VMName)
{
    /// <summary>Reads a process's; null if it is gone.</summary>
    public static VmmCommandLine Read(int processId)
    {
        var text = KernelFiles.ReadText($"/proc/{processId}/cmdline") ?? "";
        var arguments = text.TrimEnd('\0').Split('\0');
        var program = KernelFiles.ReadLinkTarget($"/proc/{processId}/exe") ?? arguments[0];
        return Parse(program, arguments);
    }

    /// <summary>Understands a program and its arguments, the first of which is its own name.</summary>
    public static VmmCommandLine Parse(string program, IReadOnlyList<string> arguments)
    {
        var name = ProgramName(program);
        var (vmm, vmName) = name switch
        {
            _ when IsQemu(name) => ("QEMU", QemuName(arguments)),
            _ when name.StartsWith("firecracker", StringComparison.Ordinal) => ("Firecracker", Option(arguments, "--id")),
            _ when name.StartsWith("cloud-hypervisor", StringComparison.Ordinal) => ("cloud-hypervisor", SocketName(Option(arguments, "--api-socket"))),
            _ when name.StartsWith("crosvm", StringComparison.Ordinal) =>
                ("crosvm", Option(arguments, "--name") ?? SocketName(Option(arguments, "--socket") ?? Option(arguments, "-s"))),
            _ => (name, null),
        };
        return new VmmCommandLine(vmm, string.IsNullOrWhiteSpace(vmName) ? null : vmName);
    }

    /// <summary>The program's file name, also when an update has replaced the file.</summary>
    private static string ProgramName(string program)
    {
        const string Deleted = " (deleted)";
        var path = program.EndsWith(Deleted, StringComparison.Ordinal) ? program[..^Deleted.Length] : program;
        return path[(path.LastIndexOf('/') + 1)..];
    }

    // Distributions have qemu-kvm or kvm as well, and NixOS wraps the program in another one.
    private static bool IsQemu(string name) =>
        name.Contains("qemu-system-", StringComparison.Ordinal) || name.StartsWith("qemu-kvm", StringComparison.Ordinal) || name is "kvm" or "qemu";

    /// <summary>QEMU's -name is a list of options, of which the first may leave out its key, "guest"; the last of several counts.</summary>
    private static string? QemuName(IReadOnlyList<string> arguments)
    {
        string? name = null;
        for (var i = 1; i + 1 < arguments.Count; i++)
        {
            if (arguments[i] is "-name" or "--name")
                name = QemuGuest(arguments[++i]) ?? name;
        }

        return name;
    }

    private static string? QemuGuest(string options)
    {
        string? guest = null;
        var first = true;
        foreach (var option in SplitQemuOptions(options))
        {
            var equals = option.IndexOf('=', StringComparison.Ordinal);
            if (equals < 0 && first)
                guest = option;
            else if (equals >= 0 && option[..equals] == "guest")
                guest = option[(equals + 1)..];
            first = false;
        }

        return guest;
    }

    /// <summary>A comma separates; two of them are one that does not.</summary>
    private static List<string> SplitQemuOptions(string options)
    {
        var parts = new List<string>();
        var part = new StringBuilder();
        for (var i = 0; i < options.Length; i++)
        {
            if (options[i] != ',')
            {
                part.Append(options[i]);
            }
            else if (i + 1 < options.Length && options[i + 1] == ',')
            {
                part.Append(',');
                i++;
            }
            else
            {
                parts.Add(part.ToString());
                part.Clear();
            }
        }

        parts.Add(part.ToString());
        return parts;
    }

    /// <summary>The value of "--option value" or "--option=value".</summary>
    private static string? Option(IReadOnlyList<string> arguments, string option)
    {
        for (var i = 1; i < arguments.Count; i++)
        {
            if (arguments[i] == option)
                return i + 1 < arguments.Count ? arguments[i + 1] : null;
            if (arguments[i].StartsWith($"{option}=", StringComparison.Ordinal))
                return arguments[i][(option.Length + 1)..];
        }

        return null;
    }

    /// <summary>
    /// VMMs that do not name their VMs have a socket for each, which tools name after the VM: "path=/run/web01.sock". Kata Containers has a
    /// directory for each instead: "/run/vc/vm/ID/clh-api.sock".
    /// </summary>
    private static string? SocketName(string? socket)
    {
        if (socket is null)
            return null;
        var options = socket.Split(',');
        var path = options.FirstOrDefault(option => option.StartsWith("path=", StringComparison.Ordinal))?["path=".Length..] ?? options[0];
        if (path.Contains('=', StringComparison.Ordinal))
            return null;
        var name = Path.GetFileNameWithoutExtension(path);
        return name == "clh-api" ? Path.GetFileName(Path.GetDirectoryName(path)) : name;
    }
}
