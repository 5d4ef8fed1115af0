using KvmTsc.Watching;

namespace KvmTsc.Torture;

/// <summary>Watches the clocks of this host's VMs, and puts right what is lost, until its standard input ends.</summary>
internal static class Guard
{
    public const string Watching = "watching";

    public static int Run(string states)
    {
        using var cancellation = new CancellationTokenSource();
        var say = Once.Of(() => Console.WriteLine(Watching));
        _ = Task.Run(() =>
        {
            _ = Console.ReadLine();
            cancellation.Cancel();
        });
        var options = new ClockWatchOptions(_ => new ClockPolicy(Corrects: true), Acts: true, states, Begun: _ => say());
        ClockWatch.Run(options, occurred => Complain(occurred), cancellation.Token);
        return 0;

        static void Complain(KvmClockEvent occurred)
        {
            if (occurred.Reason is { } reason)
                Console.Error.WriteLine($"    {occurred.Event}: {reason}");
        }
    }
}
