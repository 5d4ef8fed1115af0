using System.Globalization;

namespace KvmTsc.Torture;

/// <summary>
/// A process that works in a target as it is told. The target's parent must not do that itself: .NET waits for all children of a
/// process, and would take a child that a tracer has stopped for one that has ended.
/// </summary>
internal static class Worker
{
    public const string Read = "read";
    public const string Done = "done";

    public static int Run()
    {
        var work = Place.Parse(Console.ReadLine()!).Work();
        while (Console.ReadLine() is { } command)
            Console.WriteLine(Do(work, command));
        return 0;
    }

    private static string Do(IWork work, string command)
    {
        try
        {
            double stopped;
            IReadOnlyList<long> offsets = [];
            if (command == Read)
                offsets = work.Read(out stopped);
            else
                stopped = work.Write(long.Parse(command, CultureInfo.InvariantCulture));
            return string.Create(CultureInfo.InvariantCulture, $"{Done} {stopped} {string.Join(',', offsets)}");
        }
        catch (Exception exception) when (exception is KvmException or InvalidDataException)
        {
            return $"{(exception as KvmException)?.ErrorId}: {exception.Message}".ReplaceLineEndings(" ");
        }
    }
}
