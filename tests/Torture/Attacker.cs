using System.Diagnostics;
using System.IO.MemoryMappedFiles;

namespace KvmTsc.Torture;

/// <summary>
/// A process that attaches to the target, writing the two offsets in turn, until a SIGKILL that it has asked the kernel for hits it:
/// somewhere in an attach, or somewhere in a batch that writes.
/// </summary>
internal static class Attacker
{
    public const string Anywhere = "anywhere";
    public const string InBatch = "in the batch";
    private const int Measurements = 4;
    private const int MostWrites = 10_000;

    /// <summary>Its standard input says where to work, where to note what it does, and how to be killed; then it begins.</summary>
    public static int Run()
    {
        var place = Place.Parse(Console.ReadLine()!);
        using var notes = MemoryMappedFile.CreateFromFile(Console.ReadLine()!);
        using var view = notes.CreateViewAccessor();
        WatchedExecutor? watched = null;
        var work = place.Work(executor => watched = new WatchedExecutor(executor, phase => view.Write(0, (int)phase)));
        var timer = new KillTimer();
        Console.WriteLine("ready");
        var where = Console.ReadLine();

        var writes = 0;
        var typical = TimeSpan.MaxValue;
        for (var i = 0; i < Measurements; i++)
        {
            var began = Stopwatch.GetTimestamp();
            Write(work, writes++);
            typical = TimeSpan.FromTicks(Math.Min(typical.Ticks, Stopwatch.GetElapsedTime(began).Ticks));
        }

        if (where == InBatch)
            watched!.BeforeWriting = () => timer.Set(watched.Writing * 1.2 * Random.Shared.NextDouble());
        else
            timer.Set(typical * 2 * Random.Shared.NextDouble());
        while (writes < MostWrites)
            Write(work, writes++);
        Console.Error.WriteLine("The attacker was not killed.");
        return 1;
    }

    private static void Write(IWork work, int index) => work.Write(index % 2 == 0 ? Scenario.SecondOffset : Scenario.FirstOffset);
}
