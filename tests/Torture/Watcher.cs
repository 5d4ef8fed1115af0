using KvmTsc.Discovery;
using KvmTsc.Execution.Attach;

namespace KvmTsc.Torture;

/// <summary>Watches a VM from one line of its standard input to the next, over and over.</summary>
internal static class Watcher
{
    public const string Watching = "watching";
    public const string Ended = "ended";
    public static readonly TimeSpan Longest = TimeSpan.FromMinutes(10);

    public static int Run(int processId)
    {
        while (Console.ReadLine() is not null)
        {
            var machine = (ProcessMachine)VMDiscovery.Of(processId).Single();
            using var cancellation = new CancellationTokenSource();
            var end = default(Task);
            var say = Once.Of(() =>
            {
                Console.WriteLine(Watching);
                end = Task.Run(() =>
                {
                    _ = Console.ReadLine();
                    cancellation.Cancel();
                });
            });
            try
            {
                _ = ((AttachedExecutor)machine.Executor).WhileHeldAtResume(_ => 0, Longest, (_, _) => say(), cancellation.Token);
                Console.WriteLine("resumed");
            }
            catch (OperationCanceledException)
            {
                end!.Wait();
                Console.WriteLine(Ended);
            }
        }

        return 0;
    }
}
