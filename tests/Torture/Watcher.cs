using KvmTsc.Discovery;
using KvmTsc.Execution.Attach;

namespace KvmTsc.Torture;

/// <summary>Watches a VM from one line of its standard input to the next, over and over.</summary>
internal static class Watcher
{
    public const string Watching = "watching";
    public const string Ended = "ended";
    private static readonly TimeSpan s_longest = TimeSpan.FromMinutes(10);

    public static int Run(int processId)
    {
        while (Console.ReadLine() is not null)
        {
            var machine = (ProcessMachine)VMDiscovery.Of(processId).Single();
            using var cancellation = new CancellationTokenSource();
            var isSaid = false;
            var end = default(Task);
            try
            {
                _ = ((AttachedExecutor)machine.Executor).WhileHeldAtResume(_ => 0, s_longest, (_, _) => Say(), cancellation.Token);
                Console.WriteLine("resumed");
            }
            catch (OperationCanceledException)
            {
                end!.Wait();
                Console.WriteLine(Ended);
            }

            void Say()
            {
                if (isSaid)
                    return;
                isSaid = true;
                Console.WriteLine(Watching);
                end = Task.Run(() =>
                {
                    _ = Console.ReadLine();
                    cancellation.Cancel();
                });
            }
        }

        return 0;
    }
}
