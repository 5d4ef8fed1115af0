using System.Diagnostics;
using KvmTsc.Migration.Preflight;
using KvmTsc.Tests.Simulation;

namespace KvmTsc.Bench;

/// <summary>A fleet on simulated hosts, each VM of which is to go to another host.</summary>
internal static class Fleet
{
    private const int Vcpus = 8;

    /// <summary>Looks at all pairs, as Test-KvmTscMigration does; returns the milliseconds that each round took.</summary>
    public static IEnumerable<double> Measure(int pairs, int rounds)
    {
        var time = new SimulatedTime();
        int[] ids = [.. Enumerable.Range(0, Vcpus)];
        var fleet = Enumerable.Range(0, pairs).Select(i => (Source: Machine($"from{i}"), Destination: Machine($"to{i}"))).ToArray();
        foreach (var (source, _) in fleet)
            source.RunGuest();
        for (var round = 0; round < rounds; round++)
        {
            var clock = Stopwatch.StartNew();
            foreach (var (source, destination) in fleet)
            {
                if (!TscPreflight.Run(source, destination, new TscPreflightOptions(), CancellationToken.None).Result.Passed)
                    throw new InvalidOperationException($"{source.Identity} would not be migrated.");
            }

            yield return clock.Elapsed.TotalMilliseconds;
        }

        SimulatedMachine Machine(string host) => new(new SimulatedHost(HostSpec.Ordinary with { Name = host, BootId = host }, time), ids);
    }
}
