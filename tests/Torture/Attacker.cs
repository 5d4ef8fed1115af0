using System.Diagnostics;
using System.Globalization;
using System.IO.Pipes;
using KvmTsc.Execution;
using KvmTsc.Execution.Attach;

namespace KvmTsc.Torture;

/// <summary>
/// Has processes attach to the target, writing the two offsets in turn, until a SIGKILL that they have asked the kernel for hits them:
/// somewhere in an attach, or somewhere in a batch that writes; or until they have done so many of their acts, see <see cref="Stepper"/>.
/// Each is a fork of this one, which has attached before, since starting .NET takes far longer than an attach. Of a fork only the calling
/// thread lives on, which is the one that attaches; see <see cref="Self.StartForking"/>.
/// </summary>
internal static class Attacker
{
    public const string Anywhere = "anywhere";
    public const string InBatch = "in the batch";
    private const string AtOnce = "at-once";
    private const string AtResume = "at-resume";
    private const int Measurements = 4;
    private const int MostWrites = 10_000;
    private static readonly TimeSpan s_longestAttack = TimeSpan.FromSeconds(Patience.Seconds / 3);

    /// <summary>Its standard input says where to work, where to note what is done, and then for each kill where to be hit.</summary>
    public static int Run()
    {
        var place = Place.Parse(Console.ReadLine()!);
        using var notes = File.OpenHandle(Console.ReadLine()!, access: FileAccess.Write, share: FileShare.ReadWrite);
        WatchedExecutor? watched = null;
        var work = place.Work(executor => watched = new WatchedExecutor(executor, Note));
        var atResume = place.Work(executor => new WatchedExecutor(new ResumeExecutor((AttachedExecutor)executor), Note));
        _ = new KillTimer(); // compiled, as all else is, before the first fork
        var typical = Measure(work);
        Console.WriteLine("ready");
        while (Console.ReadLine() is { } where)
        {
            if (Parse(where) is var (isAtResume, acts))
            {
                Step(isAtResume ? atResume : work, acts);
                continue;
            }

            var child = Fork(() => AttachUntilKilled(work, watched!, where == InBatch, typical));
            if (Native.Waitpid(child, out var status, 0) != child)
                throw new System.ComponentModel.Win32Exception();
            Console.WriteLine(status);
        }

        return 0;

        void Note(KillPhase phase) => RandomAccess.Write(notes, [(byte)phase], 0);
    }

    /// <summary>That it is to be hit after so many acts.</summary>
    public static string AfterActs(int acts, bool isAtResume) => string.Create(CultureInfo.InvariantCulture, $"{(isAtResume ? AtResume : AtOnce)} {acts}");

    private static (bool IsAtResume, int Acts)? Parse(string where) =>
        where.Split(' ') is [AtResume or AtOnce, var acts] words ? (words[0] == AtResume, int.Parse(acts, CultureInfo.InvariantCulture)) : null;

    private static TimeSpan Measure(IWork work)
    {
        var typical = TimeSpan.MaxValue;
        for (var i = 0; i < Measurements; i++)
        {
            var began = Stopwatch.GetTimestamp();
            Write(work, i);
            typical = TimeSpan.FromTicks(Math.Min(typical.Ticks, Stopwatch.GetElapsedTime(began).Ticks));
        }

        return typical;
    }

    private static void AttachUntilKilled(IWork work, WatchedExecutor watched, bool inBatch, TimeSpan typical)
    {
        var timer = new KillTimer();
        if (inBatch)
            watched.BeforeWriting = () => timer.Set(watched.Writing * 1.2 * Random.Shared.NextDouble());
        else
            timer.Set(typical * 2 * Random.Shared.NextDouble());
        for (var writes = 0; writes < MostWrites; writes++)
            Write(work, writes);
    }

    /// <summary>
    /// Has something done by a fork, which is to end by itself, or be killed. One of .NET may get nowhere (1 in 35 that came right after an attach, in a thread that was
    /// ending and waited for a lock whose holder is not there): it is killed after a while in any case.
    /// </summary>
    private static int Fork(Action attack)
    {
        var child = Native.Fork();
        if (child != 0)
            return child;
        new KillTimer().Set(s_longestAttack);
        try
        {
            attack();
        }
        catch (Exception exception)
        {
            Console.Error.WriteLine($"    {exception}"); // in a fork .NET does not get as far as to say so itself
        }

        Native.Exit(1);
        return child;
    }

    /// <summary>Has one attach that is killed after so many acts, or ends. Where a fork got nowhere, another one is made.</summary>
    private static void Step(IWork work, int acts)
    {
        int status;
        Stepper stepper;
        do
            (stepper, status) = StepOnce(work, acts);
        while (status == Native.SigKill && stepper.Acts == 0);
        Console.WriteLine($"{status} {stepper.LastAct}");
    }

    private static (Stepper Stepper, int Status) StepOnce(IWork work, int acts)
    {
        using var gate = new AnonymousPipeServerStream(PipeDirection.Out);
        using var entrance = new AnonymousPipeClientStream(PipeDirection.In, gate.ClientSafePipeHandle);
        var child = Fork(() =>
        {
            _ = entrance.ReadByte();
            Write(work, acts);
            Native.Exit(0);
        });
        var stepper = Stepper.Trace(child);
        gate.WriteByte(0);
        return (stepper, stepper.KillAfter(acts));
    }

    private static void Write(IWork work, int index) => work.Write(index % 2 == 0 ? Scenario.SecondOffset : Scenario.FirstOffset);

    /// <summary>Stops a VM when it is resumed, and says when it is waiting for that.</summary>
    private sealed class ResumeExecutor(AttachedExecutor executor) : IVMExecutor
    {
        public Stopped<T> WhileStopped<T>(Func<IVMStop, T> work, CancellationToken cancellationToken, IoctlBatch? first = null)
        {
            var say = Once.Of(() => Console.WriteLine(Watcher.Watching));
            return executor.WhileHeldAtResume(work, Watcher.Longest, (_, _) => say(), cancellationToken);
        }
    }
}
