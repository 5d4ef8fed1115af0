using KvmTsc.Processes;
using System.Text;

namespace KvmTsc.Discovery;

/// <summary>What the program and the command line of a VMM tell.</summary>
/// <param name="Program">The file name of its program.</param>
/// <param name="Vmm">The VMM; the program where it is none that is known.</param>
/// <param name="IsKnown">Whether it is one that is known.</param>
/// <param name="VMName">The VM's name, null if it is not told.</param>
internal sealed record VmmCommandLine(string Program, string Vmm, bool IsKnown, string? VMName)
{
    /// <summary>
    /// The VMMs that are known: how their programs' names begin, and where their command lines name the VM, the first that does so. One more takes a
    /// row here, and whole command lines of it in VmmCommandLineTests.
    /// </summary>
    private static readonly Row[] s_table =
    [
        // Distributions have qemu-kvm, kvm and kvm-spice as well; Kata Containers had qemu-lite and qemu-vanilla; Android's emulator is one.
        new("QEMU", ["qemu-system-", "qemu-kvm", "qemu-lite-", "qemu-vanilla-", "kvm=", "kvm-spice", "qemu="], [QemuName, Option("-avd")]),
        new("Firecracker", ["firecracker"], [Option("--id"), Socket("--api-sock")]),
        new("cloud-hypervisor", ["cloud-hypervisor"], [Socket("--api-socket")]),
        new("crosvm", ["crosvm"], [Option("--name"), Socket("--socket"), Socket("-s")]),
        new("kvmtool", ["lkvm", "kvmtool", "vm="], [Option("--name"), Option("-n")]),
        new("StratoVirt", ["stratovirt"], [QemuName, Socket("-qmp"), Socket("-api-channel")]),
        new("VirtualBox", ["VBoxHeadless", "VirtualBoxVM", "VBoxSDL"], [Option("--comment"), Option("-comment"), Option("--startvm"), Option("-startvm")]),

        // VMMs that are a part of the shim of their containers.
        new("Dragonball", ["containerd-shim-kata"], [Option("-id"), Option("--id")]),
        new("nerdbox", ["containerd-shim-nerdbox"], [Option("-id"), Option("--id")]),
    ];

    private static readonly string[] s_socketEndings = [".sock", ".socket", "-socket", "-sock"];
    private static readonly string[] s_socketBeginnings = ["fc-", "firecracker-", "ch-", "crosvm-"];

    // What tools call a socket or its folder where another folder is named after the VM.
    private static readonly string[] s_generic =
    [
        "api", "ch", "ch-api", "clh-api", "cloud-hypervisor", "cloudhypervisor", "control", "crosvm", "fc", "firecracker", "qmp", "root", "run", "socket", "sockets",
        "stratovirt", "tmp", "var", "vm", "vmm",
    ];

    /// <summary>
    /// Reads a process's; null if it is gone. One that ends loses its memory, where these are, before its descriptors.
    /// </summary>
    public static VmmCommandLine? Read(int processId)
    {
        var text = KernelFiles.ReadText($"/proc/{processId}/cmdline") ?? "";
        var arguments = text.TrimEnd('\0').Split('\0');
        var program = KernelFiles.ReadLinkTarget($"/proc/{processId}/exe") ?? arguments[0];
        return program.Length > 0 ? Parse(program, arguments) : null;
    }

    /// <summary>Understands a program and its arguments, the first of which is its own name.</summary>
    public static VmmCommandLine Parse(string program, IReadOnlyList<string> arguments)
    {
        var file = ProgramName(program);
        var row = Array.Find(s_table, row => row.Knows(file));
        var name = row?.Names.Select(rule => rule(arguments)).FirstOrDefault(name => !string.IsNullOrWhiteSpace(name));
        return new VmmCommandLine(Printable(file), row?.Vmm ?? Printable(file), row is not null, name is null ? null : Printable(name));
    }

    /// <summary>A command line may have what would do something to a terminal.</summary>
    private static string Printable(string text) => text.Any(char.IsControl) ? string.Concat(text.Select(c => char.IsControl(c) ? '\uFFFD' : c)) : text;

    /// <summary>The program's file name, also when an update has replaced the file.</summary>
    private static string ProgramName(string program)
    {
        const string Deleted = " (deleted)";
        var path = program.EndsWith(Deleted, StringComparison.Ordinal) ? program[..^Deleted.Length] : program;
        return path[(path.LastIndexOf('/') + 1)..];
    }

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
    private static Func<IReadOnlyList<string>, string?> Option(string option) => arguments =>
    {
        for (var i = 1; i < arguments.Count; i++)
        {
            if (arguments[i] == option)
                return i + 1 < arguments.Count ? arguments[i + 1] : null;
            if (arguments[i].StartsWith($"{option}=", StringComparison.Ordinal))
                return arguments[i][(option.Length + 1)..];
        }

        return null;
    };

    private static Func<IReadOnlyList<string>, string?> Socket(string option) => arguments => Option(option)(arguments) is { } socket ? SocketName(socket) : null;

    /// <summary>
    /// VMMs that do not name their VMs have a socket for each, which tools name after the VM ("path=/run/web01.sock", libvirt's
    /// "/run/libvirt/ch/web01-socket"), or have in a folder that is ("/run/vc/vm/ID/clh-api.sock"). One that was opened before ("fd=5") tells nothing.
    /// </summary>
    private static string? SocketName(string socket)
    {
        const string PathKey = "path=";
        const string Unix = "unix:";
        var options = socket.Split(',');
        var path = options.FirstOrDefault(option => option.StartsWith(PathKey, StringComparison.Ordinal))?[PathKey.Length..] ?? options[0];
        path = path.StartsWith(Unix, StringComparison.Ordinal) ? path[Unix.Length..] : path;
        if (!path.Contains('/', StringComparison.Ordinal) && path.Contains('=', StringComparison.Ordinal))
            return null;
        var parts = path.Split('/');
        var ending = Array.Find(s_socketEndings, ending => parts[^1].EndsWith(ending, StringComparison.Ordinal));
        parts[^1] = parts[^1][..^(ending?.Length ?? 0)];
        var name = Array.FindLast(parts, part => part.Length > 0 && !s_generic.Contains(part));
        var beginning = Array.Find(s_socketBeginnings, beginning => name?.StartsWith(beginning, StringComparison.Ordinal) == true && name.Length > beginning.Length);
        return name?[(beginning?.Length ?? 0)..];
    }

    /// <summary>A VMM.</summary>
    /// <param name="Vmm">What it is called.</param>
    /// <param name="Programs">How the names of its programs begin, or with a = what they are; NixOS wraps a program in another one, ".NAME-wrapped".</param>
    /// <param name="Names">Where its command line may name the VM.</param>
    private sealed record Row(string Vmm, string[] Programs, Func<IReadOnlyList<string>, string?>[] Names)
    {
        public bool Knows(string file) => Array.Exists(Programs, program => program.EndsWith('=')
            ? file == program[..^1]
            : file.TrimStart('.').StartsWith(program, StringComparison.Ordinal));
    }
}
