using System.Collections.Concurrent;
using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using KvmTsc.Discovery;
using KvmTsc.Machines;

namespace KvmTsc.Torture;

/// <summary>The self-checking program, as a process.</summary>
internal sealed class Target : IDisposable
{
    private const int MostLinesShown = 30;
    private const int MostLinesKept = 100_000;
    private readonly Process _process;
    private readonly ConcurrentQueue<string> _lines = [];

    private Target(Process process, string name)
    {
        _process = process;
        Name = name;
        process.ErrorDataReceived += (_, line) => Show(line.Data);
        process.BeginErrorReadLine();
    }

    public string Name { get; }

    public int ProcessId { get; private set; }

    public int VMDescriptor { get; private set; }

    /// <summary>What it has instead of vCPUs, if it is a stand-in.</summary>
    public IReadOnlyList<int> Terminals { get; private set; } = [];

    public bool HasEnded => _process.HasExited;

    /// <summary>Whether its deviations are expected, and not worth being shown.</summary>
    public bool IsQuiet { get; set; }

    /// <summary>Starts one and waits until it is ready.</summary>
    public static Target Start(string name, string program, params string[] arguments)
    {
        // It is busy with dozens of threads, and must leave time to those who attach.
        var start = new ProcessStartInfo("nice", ["-n", "19", program, .. arguments])
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        var target = new Target(Process.Start(start)!, name);
        try
        {
            var words = target.ReadLine().Split(' ');
            target.ProcessId = int.Parse(words[1], CultureInfo.InvariantCulture);
            target.VMDescriptor = int.Parse(words[3], CultureInfo.InvariantCulture);
            target.Terminals = [.. words[^1].Split(',', StringSplitOptions.RemoveEmptyEntries).Select(word => int.Parse(word, CultureInfo.InvariantCulture))];
            return target;
        }
        catch
        {
            target.Dispose();
            throw;
        }
    }

    /// <summary>Its VM, as KvmTsc finds it.</summary>
    public Machine FindMachine() => VMDiscovery.Of(ProcessId).Single();

    /// <summary>
    /// Writes down some of a stand-in's threads as debugfs does those of vCPUs: none in a call that a tracer's death ends with EINTR, as no vCPU's would be, see
    /// docs/attach.md.
    /// </summary>
    /// <returns>The directory.</returns>
    public string NameSomeThreads()
    {
        var directory = Directory.CreateTempSubdirectory("threads-").FullName;
        var threads = ThreadStates.NotEndedByStop(ProcessId).Order().ToArray();
        for (var id = 0; id < Terminals.Count; id++)
        {
            var vcpu = Directory.CreateDirectory(Path.Combine(directory, $"vcpu{id}")).FullName;
            File.WriteAllText(Path.Combine(vcpu, "pid"), threads[(id + 1) * (threads.Length - 10) / (Terminals.Count + 1)]);
        }

        return directory;
    }

    public TargetReport Report() => TargetReport.Parse(Ask("status"));

    public IReadOnlyList<long> Offsets() => JsonSerializer.Deserialize(Ask("offsets"), TargetJson.Default.TargetOffsets)!.Offsets;

    public TargetResources Resources() => JsonSerializer.Deserialize(Ask("maps"), TargetJson.Default.TargetResources)!;

    /// <summary>How much more CLOCK_REALTIME shows than kvmclock, in nanoseconds, as the target itself reads them; null while KVM has no master clock.</summary>
    public long? Lag() => JsonSerializer.Deserialize(Ask("clock"), TargetJson.Default.TargetClock)!.Lag;

    public void Pause() => Ask("pause");

    public void Continue() => Ask("cont");

    /// <summary>A deviation that says that a thread has not the registers it had, null if there is none.</summary>
    public string? FindChangedRegister() => _lines.FirstOrDefault(
        line => line.Contains("across system call", StringComparison.Ordinal) || line.Contains("in user mode", StringComparison.Ordinal));

    /// <summary>Waits until every check that has work has made progress.</summary>
    /// <returns>What had made none when patience ended.</returns>
    public IReadOnlyList<TargetCheck> AwaitProgress(TargetReport since, int seconds = Patience.Seconds)
    {
        const int LooksPerSecond = 50;
        for (var looks = 1; ; looks++)
        {
            TargetCheck[] stalled = [.. Report().StalledSince(since)];
            if (stalled.Length == 0 || looks > seconds * LooksPerSecond)
                return stalled;
            Thread.Sleep(1000 / LooksPerSecond);
        }
    }

    /// <summary>Has it end, and gives its last report.</summary>
    public TargetReport Quit()
    {
        var report = TargetReport.Parse(Ask("quit"));
        if (!Patience.Wait(_process))
            throw new InvalidOperationException($"The target {Name} does not end.");
        return report;
    }

    public int ExitStatus => _process.ExitCode;

    /// <summary>Waits until it ends by itself.</summary>
    public bool WaitForEnd() => Patience.Wait(_process);

    public void Dispose()
    {
        try
        {
            _process.Kill();
        }
        catch (InvalidOperationException)
        {
            // It has ended.
        }

        _process.WaitForExit();
        _process.Dispose();
    }

    private string Ask(string command)
    {
        _process.StandardInput.WriteLine(command);
        _process.StandardInput.Flush();
        return ReadLine();
    }

    private string ReadLine()
    {
        var line = _process.StandardOutput.ReadLineAsync();
        if (!Patience.Wait(line))
            throw new InvalidOperationException($"The target {Name} does not answer: {ThreadStates.Describe(ProcessId)}.");
        return line.Result ?? throw new InvalidOperationException($"The target {Name} ended{EndOf(_process)}.");
    }

    private static string EndOf(Process process) => Patience.Wait(process) ? $" with exit status {process.ExitCode}" : "";

    private void Show(string? line)
    {
        if (line is null || _lines.Count > MostLinesKept)
            return;
        _lines.Enqueue(line);
        if (_lines.Count <= MostLinesShown && !IsQuiet)
            Console.WriteLine($"    {Name}: {line}");
    }
}
