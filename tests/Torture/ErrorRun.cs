using System.Diagnostics;
using KvmTsc.Clocks;
using KvmTsc.Discovery;
using KvmTsc.Machines;

namespace KvmTsc.Torture;

/// <summary>Where one cannot attach, or hardly: the right error or the right result, and a target that did not notice.</summary>
internal sealed class ErrorRun(Options options, Counts counts)
{
    private const string PtraceScope = "/proc/sys/kernel/yama/ptrace_scope";
    private const string User = "54321";
    private const string OtherUser = "54322";
    private const int DefaultExits = 20;
    private static readonly string[] s_root = [];
    private static readonly string[] s_sameUser = As(User);
    private static readonly string[] s_otherUser = As(OtherUser);
    private static readonly string[] s_withoutSysAdmin = ["setpriv", "--inh-caps=-all", "--bounding-set=-sys_admin"];
    private const string Done = "done";

    public static int Run(Options options)
    {
        var counts = new Counts();
        var run = new ErrorRun(options, counts);
        (string Name, Action Test)[] tests =
        [
            ("traced", run.Traced),
            ("users", run.Users),
            ("yama", run.Yama),
            ("seccomp", run.Seccomp),
            ("undumpable", run.Undumpable),
            ("32-bit", run.ThirtyTwoBit),
            ("stopped", run.StoppedBySignal),
            ("zombie", run.Zombie),
            ("gone", run.Gone),
            ("exits", run.ExitsMeanwhile),
        ];
        foreach (var (name, test) in tests.Where(test => options.Only is null || test.Name == options.Only))
        {
            try
            {
                test();
            }
            catch (InvalidOperationException exception)
            {
                counts.Fail($"{name}: {exception.Message}");
            }
        }

        return counts.Finish();
    }

    private void Traced() => WithTarget([], target =>
    {
        using var tracer = Process.Start(new ProcessStartInfo(Options.Program("naive"), [$"{target.ProcessId}", "--seize"]) { RedirectStandardOutput = true })!;
        tracer.StandardOutput.ReadLine();
        Expect("another tracer is there", target, s_root, nameof(KvmErrorId.AlreadyTraced));
        using (var kill = Process.Start("kill", [$"{tracer.Id}"]))
            kill.WaitForExit();
        tracer.WaitForExit();
        Expect("the other tracer has gone", target, s_root, Done);
    }, isOursAlone: false);

    private void Users() => WithTarget(["--user", User], target =>
    {
        Expect("root, into another user's", target, s_root, Done);
        Expect("the same user", target, s_sameUser, Done);
        Expect("another user", target, s_otherUser, nameof(KvmErrorId.AttachDenied));
    });

    private void Yama()
    {
        if (!File.Exists(PtraceScope))
        {
            counts.Say("This kernel has no Yama: left out.");
            return;
        }

        var before = File.ReadAllText(PtraceScope);
        try
        {
            foreach (var scope in new[] { "1", "2" }.Where(scope => string.CompareOrdinal(scope, before.Trim()) >= 0))
            {
                File.WriteAllText(PtraceScope, scope);
                WithTarget(["--user", User], target =>
                {
                    Expect($"Yama {scope}, root", target, s_root, Done);
                    Expect($"Yama {scope}, the same user", target, s_sameUser, nameof(KvmErrorId.AttachDenied));
                });
            }
        }
        finally
        {
            File.WriteAllText(PtraceScope, before);
        }
    }

    private void Seccomp() => WithTarget(["--seccomp"], target =>
    {
        Expect("a seccomp filter, with CAP_SYS_ADMIN", target, s_root, Done);
        Expect("a seccomp filter, without CAP_SYS_ADMIN", target, s_withoutSysAdmin, nameof(KvmErrorId.SeccompFilter));
        Expect("a seccomp filter, with CAP_SYS_ADMIN again", target, s_root, Done);
    });

    private void Undumpable() => WithTarget(["--user", User, "--undumpable"], target =>
    {
        Expect("not dumpable, root", target, s_root, Done);
        Expect("not dumpable, the same user", target, s_sameUser, nameof(KvmErrorId.AttachDenied));
    });

    private void ThirtyTwoBit()
    {
        using var process = Process.Start(new ProcessStartInfo(Options.Program("target32")) { RedirectStandardInput = true, RedirectStandardOutput = true })!;
        counts.Expect(process.StandardOutput.ReadLine() == "ready", "32-bit: its process starts");
        ExpectAttempt("a 32-bit process", process.Id, s_root, nameof(KvmErrorId.AttachUnsupported));
        process.StandardInput.Close();
        process.WaitForExit();
        counts.Expect(process.ExitCode == 0, $"32-bit: the process did not notice (exit status {process.ExitCode})");
    }

    /// <summary>A SIGSTOP interrupts waits by itself, so this target's deviations do not count.</summary>
    private void StoppedBySignal()
    {
        using var target = Target.Start("stopped", Options.Program("target"));
        target.IsQuiet = true;
        Shell($"kill -STOP {target.ProcessId}");
        Await(() => ThreadStates.Describe(target.ProcessId).Contains('T', StringComparison.Ordinal));
        ExpectAttempt("stopped by SIGSTOP", target.ProcessId, s_root, nameof(KvmErrorId.AttachUnsupported));
        counts.Expect(ThreadStates.Describe(target.ProcessId).Contains(" T ", StringComparison.Ordinal), "stopped by SIGSTOP: it is still stopped");
        Shell($"kill -CONT {target.ProcessId}");
        counts.Expect(target.AwaitProgress(target.Report()).Count == 0, "stopped by SIGSTOP: it goes on when told to");
    }

    private void Zombie()
    {
        // Nobody waits for the child of a program that knows nothing of it.
        using var parent = Process.Start(new ProcessStartInfo("sh", ["-c", $"exec 3<&0 </dev/null; {Options.Program("target")} <&3 & echo $!; exec sleep 600 3<&-"])
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
        })!;
        var processId = int.Parse(parent.StandardOutput.ReadLine()!);
        parent.StandardOutput.ReadLine();
        var machine = VMDiscovery.Of(processId).Single();
        parent.StandardInput.Close(); // has it end
        Await(() => File.ReadAllText($"/proc/{processId}/stat").Contains(") Z", StringComparison.Ordinal));
        ExpectError("a zombie", machine, KvmErrorId.ProcessGone);
        parent.Kill();
        parent.WaitForExit();
    }

    private void Gone()
    {
        using var target = Target.Start("gone", Options.Program("target"));
        var machine = target.FindMachine();
        target.Quit();
        ExpectError("a process that is gone", machine, KvmErrorId.ProcessGone);
    }

    /// <summary>Attaches until the target ends, which it does at some instant of an attach.</summary>
    private void ExitsMeanwhile()
    {
        for (var i = 0; i < (options.Count ?? DefaultExits); i++)
        {
            string[] arguments = i % 2 == 0 ? [] : ["--no-run"];
            using var target = Target.Start("exits", Options.Program("target"), [.. arguments, "--exit-after", $"{1500 + Random.Shared.Next(500)}"]);
            var machine = target.FindMachine();
            var attaches = 0;
            var end = AttachUntilError(machine, ref attaches);
            counts.Expect(end.ErrorId is KvmErrorId.ProcessGone, $"it ended while it was attached to: {end.ErrorId} after {attaches} attaches: {end.Message}");
            counts.Expect(target.WaitForEnd() && target.ExitStatus == 0, "it ended as it wanted to");
        }
    }

    private static KvmException AttachUntilError(Machine machine, ref int attaches)
    {
        try
        {
            for (; ; attaches++)
                GuestTsc.ReadOffsets(machine, null, CancellationToken.None);
        }
        catch (KvmException exception)
        {
            return exception;
        }
    }

    // --- parts

    /// <summary>Runs something as another user, whose one privilege lets it open the directories of processes that it may not look at.</summary>
    private static string[] As(string user) =>
    [
        "setpriv", $"--reuid={user}", $"--regid={user}", "--clear-groups", "--bounding-set=-all,+dac_read_search",
        "--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search",
    ];

    /// <summary>Has a target, which is to be as it was afterwards. What another tracer did to its waits is not ours.</summary>
    private void WithTarget(string[] arguments, Action<Target> test, bool isOursAlone = true)
    {
        using var target = Target.Start(string.Join(' ', ["target", .. arguments]), Options.Program("target"), ["--vcpus", "2", "--spinners", "1", .. arguments]);
        test(target);
        counts.Expect(target.AwaitProgress(target.Report()).Count == 0, $"{target.Name} goes on");
        var report = target.Quit();
        counts.Expect(!isOursAlone || report.Deviations == 0, $"{target.Name} did not notice: {report.Deviations} deviations {report.Deviating}");
    }

    private void Expect(string what, Target target, string[] below, string expected)
    {
        ExpectAttempt(what, target.ProcessId, below, expected);
        if (expected != nameof(KvmErrorId.AlreadyTraced))
            counts.Expect(ThreadStates.Held(target.ProcessId).Count == 0, $"{what}: no thread is held");
    }

    private void ExpectAttempt(string what, int processId, string[] below, string expected)
    {
        using var attempt = Self.Start(below, "try", $"{processId}");
        var answer = attempt.StandardOutput.ReadToEnd().Trim();
        attempt.WaitForExit();
        counts.Say($"{what}: {answer}");
        counts.Expect(answer.StartsWith(expected + ":", StringComparison.Ordinal), $"{what}: {expected}");
    }

    private void ExpectError(string what, Machine machine, KvmErrorId expected)
    {
        try
        {
            GuestTsc.ReadOffsets(machine, null, CancellationToken.None);
            counts.Fail($"{what}: was attached to");
        }
        catch (KvmException exception)
        {
            counts.Say($"{what}: {exception.ErrorId}: {exception.Message}");
            counts.Expect(exception.ErrorId == expected, $"{what}: {expected}");
        }
    }

    private static void Shell(string command)
    {
        using var shell = Process.Start("sh", ["-c", command]);
        shell.WaitForExit();
    }

    private static void Await(Func<bool> condition)
    {
        while (!condition())
            Thread.Sleep(10);
    }
}
