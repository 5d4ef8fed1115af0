using System.Diagnostics;
using System.Globalization;
using System.IO.Pipes;
using System.Runtime.InteropServices;

namespace KvmTsc.Torture;

/// <summary>
/// Has processes attach to the target, writing the two offsets in turn, until a SIGKILL that they have asked the kernel for hits them:
/// somewhere in an attach, or somewhere in a batch that writes; or until it has done so many of its acts, see <see cref="Stepper"/>. Each is a fork of this one, which has attached before, since starting .NET
/// takes far longer than an attach. Of a fork only the calling thread lives on, which is the one that attaches; see
/// <see cref="Self.StartForking"/>.
/// </summary>
internal static partial class Attacker
{
    public const string Anywhere = "anywhere";
    public const string InBatch = "in the batch";
    public const string AfterActs = "after ";
    private const int Measurements = 4;
    private const int MostWrites = 10_000;

    /// <summary>Its standard input says where to work, where to note what is done, and then for each kill where to be hit.</summary>
    public static int Run()
    {
        var place = Place.Parse(Console.ReadLine()!);
        using var notes = File.OpenHandle(Console.ReadLine()!, access: FileAccess.Write, share: FileShare.ReadWrite);
        WatchedExecutor? watched = null;
        var work = place.Work(executor => watched = new WatchedExecutor(executor, phase => RandomAccess.Write(notes, [(byte)phase], 0)));
        _ = new KillTimer(); // compiled, as all else is, before the first fork
        var typical = Measure(work);
        Console.WriteLine("ready");
        while (Console.ReadLine() is { } where)
        {
            if (where.StartsWith(AfterActs, StringComparison.Ordinal))
            {
                Step(work, int.Parse(where[AfterActs.Length..], CultureInfo.InvariantCulture));
                continue;
            }

            var child = Fork();
            if (child == 0)
                AttachUntilKilled(work, watched!, where == InBatch, typical);
            if (Waitpid(child, out var status, 0) != child)
                throw new System.ComponentModel.Win32Exception();
            Console.WriteLine(status);
        }

        return 0;
    }

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
        try
        {
            for (var writes = 0; writes < MostWrites; writes++)
                Write(work, writes);
        }
        catch (Exception exception)
        {
            Console.Error.WriteLine($"    {exception}"); // in a fork .NET does not get as far as to say so itself
        }

        Exit(1);
    }

    /// <summary>Has one attach that is killed after so many acts, or ends.</summary>
    private static void Step(IWork work, int acts)
    {
        using var gate = new AnonymousPipeServerStream(PipeDirection.Out);
        using var entrance = new AnonymousPipeClientStream(PipeDirection.In, gate.ClientSafePipeHandle);
        var child = Fork();
        if (child == 0)
        {
            _ = entrance.ReadByte();
            Write(work, acts);
            Exit(0);
        }

        var stepper = Stepper.Trace(child);
        gate.WriteByte(0);
        var status = stepper.KillAfter(acts);
        Console.WriteLine($"{status} {stepper.LastAct}");
    }

    private static void Write(IWork work, int index) => work.Write(index % 2 == 0 ? Scenario.SecondOffset : Scenario.FirstOffset);

    [LibraryImport("libc", EntryPoint = "fork")]
    private static partial int Fork();

    [LibraryImport("libc", EntryPoint = "waitpid", SetLastError = true)]
    private static partial int Waitpid(int process, out int status, int options);

    [LibraryImport("libc", EntryPoint = "_exit")]
    private static partial void Exit(int status);
}
