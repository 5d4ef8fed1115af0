using System.Text.RegularExpressions;
using KvmTsc.Machines;
using KvmTsc.Watching;

namespace KvmTsc.Tests.Watching;

public sealed partial class ClockMetricsTests : IDisposable
{
    private readonly DirectoryInfo _directory = Directory.CreateTempSubdirectory("kvmtsc-metrics-");

    public void Dispose() => _directory.Delete(recursive: true);

    [Fact]
    public void What_happened_to_each_VM_is_counted()
    {
        var metrics = new ClockMetrics(Path.Combine(_directory.FullName, "kvmtsc.prom"));
        var (web, db) = (new VMIdentity("web01", 1, "1:1"), new VMIdentity("a\"\\b", 2, "2:1"));
        KvmClockEvent[] events =
        [
            new(KvmClockEventKind.Found, web, stoppedMicroseconds: 1500),
            new(KvmClockEventKind.Found, db),
            new(KvmClockEventKind.Paused, web),
            new(KvmClockEventKind.Resumed, web),
            new(KvmClockEventKind.Corrected, web, 5_000_000_000, 500),
            new(KvmClockEventKind.Paused, web),
            new(KvmClockEventKind.SetBack, db, 250_000_000, 1000),
            new(KvmClockEventKind.Refused, db, 250_000_000, 1000, "It is more than -MaximumDowntime allows."),
            new(KvmClockEventKind.MasterClockLost, db),
            new(KvmClockEventKind.Ended, db),
            new(KvmClockEventKind.EventsLost, null),
        ];
        foreach (var occurred in events)
            metrics.Count(occurred);
        var lines = metrics.Format().TrimEnd('\n').Split('\n');
        Assert.All(lines, line => Assert.Matches(Line(), line));
        string[] expected =
        [
            "kvmtsc_vm_watched{vm=\"web01\"} 1", "kvmtsc_vm_watched{vm=\"a\\\"\\\\b\"} 0",
            "kvmtsc_vm_paused{vm=\"web01\"} 1", "kvmtsc_vm_pauses_total{vm=\"web01\"} 2",
            "kvmtsc_vm_lost_seconds_total{vm=\"web01\"} 5", "kvmtsc_vm_corrected_seconds_total{vm=\"web01\"} 5", "kvmtsc_vm_corrections_total{vm=\"web01\"} 1",
            "kvmtsc_vm_held_seconds_total{vm=\"web01\"} 0.002",
            "kvmtsc_vm_lost_seconds_total{vm=\"a\\\"\\\\b\"} 0.25", "kvmtsc_vm_refusals_total{vm=\"a\\\"\\\\b\"} 1", "kvmtsc_vm_master_clock{vm=\"a\\\"\\\\b\"} 0",
            "kvmtsc_vm_held_seconds_total{vm=\"a\\\"\\\\b\"} 0.001",
            "kvmtsc_watch_events_lost_total 1",
        ];
        Assert.All(expected, line => Assert.Contains(line, lines));

        // Each metric is told of once, before its samples.
        var names = lines.Where(line => line.StartsWith("# TYPE", StringComparison.Ordinal)).Select(line => line.Split(' ')[2]).ToArray();
        Assert.Equal(names.Distinct(), names);
    }

    [Fact]
    public void A_file_is_whole_and_written_when_something_changed()
    {
        var path = Path.Combine(_directory.FullName, "kvmtsc.prom");
        var metrics = new ClockMetrics(path);
        metrics.Write();
        Assert.Equal(metrics.Format(), File.ReadAllText(path));
        File.Delete(path);
        metrics.Write();
        Assert.False(File.Exists(path));
        metrics.Count(new KvmClockEvent(KvmClockEventKind.EventsLost, null));
        metrics.Write();
        Assert.Single(_directory.GetFiles());
    }

    [Fact]
    public void What_cannot_be_written_is_an_error()
    {
        var metrics = new ClockMetrics(Path.Combine(_directory.FullName, "nowhere", "kvmtsc.prom"));
        Assert.Equal(KvmErrorId.FileWriteFailed, Assert.Throws<KvmException>(metrics.Write).ErrorId);
    }

    // The text format of Prometheus: https://prometheus.io/docs/instrumenting/exposition_formats
    [GeneratedRegex("^(# HELP kvmtsc_[a-z_]+ [A-Z].*\\.|# TYPE kvmtsc_[a-z_]+ (counter|gauge)|kvmtsc_[a-z_]+(\\{vm=\"([^\"\\\\]|\\\\[\"\\\\n])*\"\\})? [0-9.E+-]+)$")]
    private static partial Regex Line();
}
