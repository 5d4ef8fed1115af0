using System.Diagnostics;
using KvmTsc.Tests.Discovery;

[assembly: AssemblyFixture(typeof(Programs))]

namespace KvmTsc.Tests.Discovery;

/// <summary>The programs next to these tests, compiled by this machine's compiler when they are first asked for.</summary>
public sealed class Programs : IDisposable
{
    private readonly DirectoryInfo _directory = Directory.CreateTempSubdirectory("kvmtsc-discovery-");
    private readonly Lazy<string> _vms;
    private readonly Lazy<string> _vm32;

    public Programs()
    {
        // Other users run them, too.
        if (OperatingSystem.IsLinux())
            _directory.UnixFileMode |= UnixFileMode.GroupRead | UnixFileMode.GroupExecute | UnixFileMode.OtherRead | UnixFileMode.OtherExecute;
        _vms = new Lazy<string>(() => Compile("vms", "-pthread"));
        _vm32 = new Lazy<string>(() => Compile(
            "vm32", "-m32", "-static", "-nostdlib", "-fno-pic", "-no-pie", "-fno-stack-protector", "-fcf-protection=none"));
    }

    /// <summary>See vms.c.</summary>
    public string VMs => _vms.Value;

    /// <summary>See vm32.c.</summary>
    public string VM32 => _vm32.Value;

    public void Dispose() => _directory.Delete(recursive: true);

    private string Compile(string name, params string[] options)
    {
        var program = Path.Combine(_directory.FullName, name);
        var source = Path.Combine(AppContext.BaseDirectory, "Discovery", $"{name}.c");
        using var compiler = Process.Start("cc", ["-Wall", "-Wextra", "-Werror", "-O", .. options, "-o", program, source]);
        compiler.WaitForExit();
        Assert.True(compiler.ExitCode == 0, $"cc cannot compile {source}. Install a C compiler and the system's headers: apt-get install gcc libc6-dev linux-libc-dev");
        return program;
    }
}
