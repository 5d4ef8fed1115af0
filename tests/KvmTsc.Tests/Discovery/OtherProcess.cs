using System.Diagnostics;
using System.Globalization;
using KvmTsc.Discovery;

namespace KvmTsc.Tests.Discovery;

/// <summary>A process that runs VMs, or nothing. It ends with the test.</summary>
internal sealed class OtherProcess : IDisposable
{
    private const string Qemu = "qemu-system-x86_64";

    private static readonly string[] s_qemuArguments = ["-accel", "kvm", "-machine", "q35", "-m", "64", "-display", "none", "-nodefaults"];

    private static readonly TimeSpan s_patience = TimeSpan.FromMinutes(1);

    private readonly Process _process;
    private readonly Dictionary<string, List<int>> _printed = [];

    private OtherProcess(Process process) => _process = process;

    public int Id => _process.Id;

    public bool HasExited => _process.HasExited;

    /// <summary>What vms.c printed.</summary>
    public IReadOnlyList<int> Descriptors => Printed("descriptor");

    public IReadOnlyList<int> Threads => Printed("thread");

    public IReadOnlyList<int> Children => Printed("child");

    /// <summary>The VMs that discovery finds in it.</summary>
    public IReadOnlyList<ProcessMachine> Find() => [.. VMDiscovery.Of(Id).Cast<ProcessMachine>()];

    /// <summary>The one VM that discovery finds in it.</summary>
    public ProcessMachine FindOne() => Assert.Single(Find());

    /// <summary>Starts a program that says "ready" when it is.</summary>
    public static OtherProcess StartReady(string program, params string[] arguments)
    {
        var other = Start(program, arguments);
        try
        {
            while (other._process.StandardOutput.ReadLine() is { } line)
            {
                if (line == "ready")
                    return other;
                if (line.Split(' ') is [var what, var number])
                    other.Printed(what).Add(int.Parse(number, CultureInfo.InvariantCulture));
            }

            Assert.Fail($"{program} {string.Join(' ', arguments)} ended before it was ready.");
            return other;
        }
        catch
        {
            other.Dispose();
            throw;
        }
    }

    /// <summary>Starts a program, confined where tests/selinux.sh has loaded its policy.</summary>
    public static OtherProcess Start(string program, params string[] arguments)
    {
        if (File.Exists("/sys/fs/selinux/enforce"))
            File.WriteAllText("/proc/thread-self/attr/exec", "u:r:vmm_t");
        return new(Process.Start(new ProcessStartInfo(program, arguments) { RedirectStandardInput = true, RedirectStandardOutput = true })!);
    }

    /// <summary>Starts an unmodified QEMU that has no disk and nothing to boot.</summary>
    public static OtherProcess StartQemu(params string[] arguments) => Start(Qemu, [.. s_qemuArguments, .. arguments]);

    /// <summary>Starts a shell that has a program as its child, and ends after it.</summary>
    public static OtherProcess StartParentOf(string program, params string[] arguments) => Start("sh", ["-c", "\"$0\" \"$@\"; exit 0", program, .. arguments]);

    /// <summary>Starts a shell that has such a QEMU as its child.</summary>
    public static OtherProcess StartParentOfQemu(params string[] arguments) => StartParentOf(Qemu, [.. s_qemuArguments, .. arguments]);

    /// <summary>Writes a line to its standard input.</summary>
    public void Tell(string line)
    {
        _process.StandardInput.WriteLine(line);
        _process.StandardInput.Flush();
    }

    /// <summary>Tells it to end.</summary>
    public void CloseInput() => _process.StandardInput.Close();

    public void Kill()
    {
        _process.Kill();
        AwaitExit();
    }

    public void AwaitExit() => Assert.True(_process.WaitForExit(s_patience), $"Process {Id} has ended, and its parent was not told.");

    public void Dispose()
    {
        if (!_process.HasExited)
            Kill();
        _process.Dispose();
    }

    private List<int> Printed(string what)
    {
        if (!_printed.TryGetValue(what, out var numbers))
            _printed.Add(what, numbers = []);
        return numbers;
    }
}
