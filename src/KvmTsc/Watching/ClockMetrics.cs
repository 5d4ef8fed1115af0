using System.Globalization;
using System.Text;
using KvmTsc.States;

namespace KvmTsc.Watching;

/// <summary>
/// What a watch has seen and done, as counts in a file that Prometheus' node exporter reads (its textfile collector). Names and units as in
/// https://prometheus.io/docs/practices/naming; the format as in https://prometheus.io/docs/instrumenting/exposition_formats.
/// </summary>
internal sealed class ClockMetrics(string path)
{
    private const UnixFileMode Everybody = UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.GroupRead | UnixFileMode.OtherRead;
    private const int MostEnded = 1000;

    private static readonly (string Name, string Kind, string Help, Func<Counts, double> Value)[] s_ofVMs =
    [
        ("kvmtsc_vm_watched", "gauge", "Whether the VM is there, and watched.", counts => counts.IsThere ? 1 : 0),
        ("kvmtsc_vm_paused", "gauge", "Whether the VM is paused.", counts => counts.IsPaused ? 1 : 0),
        ("kvmtsc_vm_master_clock", "gauge", "Whether KVM's master clock of the VM is on.", counts => counts.HasMasterClock ? 1 : 0),
        ("kvmtsc_vm_pauses_total", "counter", "Pauses of the VM that were long enough to be seen.", counts => counts.Pauses),
        ("kvmtsc_vm_lost_seconds_total", "counter", "Time that the guest lost as kvmclock was set back.", counts => counts.LostSeconds),
        ("kvmtsc_vm_corrected_seconds_total", "counter", "Time that was given back to the guest.", counts => counts.CorrectedSeconds),
        ("kvmtsc_vm_corrections_total", "counter", "Times that the guest was given back what it had lost.", counts => counts.Corrections),
        ("kvmtsc_vm_refusals_total", "counter", "Times that the guest was not given back what it had lost.", counts => counts.Refusals),
        ("kvmtsc_vm_held_seconds_total", "counter", "Time for which the vCPUs were held to look at the clocks.", counts => counts.HeldSeconds),
    ];

    private readonly SortedDictionary<string, Counts> _vms = new(StringComparer.Ordinal);
    private readonly double _began = (DateTime.UtcNow - DateTime.UnixEpoch).TotalSeconds;
    private long _eventsLost;
    private bool _isWritten;

    /// <summary>Counts an event.</summary>
    public void Count(KvmClockEvent occurred)
    {
        _isWritten = false;
        if (occurred.Kind == KvmClockEventKind.EventsLost)
            _eventsLost++;
        if (occurred.VMName is not { } name)
            return;
        if (!_vms.TryGetValue(name, out var counts))
            _vms.Add(name, counts = new Counts());
        counts.Take(occurred);
        if (_vms.Count > MostEnded && _vms.FirstOrDefault(vm => !vm.Value.IsThere).Key is { } ended)
            _vms.Remove(ended);
    }

    /// <summary>Writes all counts, if any changed.</summary>
    /// <exception cref="KvmException">They cannot be written.</exception>
    public void Write()
    {
        if (_isWritten)
            return;
        WholeFile.Write(path, Encoding.UTF8.GetBytes(Format()), Everybody, replace: true, lasts: false);
        _isWritten = true;
    }

    /// <summary>All counts.</summary>
    internal string Format()
    {
        var text = new StringBuilder();
        Add("kvmtsc_watch_start_time_seconds", "gauge", "When the watch began, since the epoch.", [("", _began)]);
        Add("kvmtsc_watch_events_lost_total", "counter", "Times that the kernel had more events than room.", [("", _eventsLost)]);
        foreach (var (name, kind, help, value) in s_ofVMs)
            Add(name, kind, help, _vms.Select(vm => ($"{{vm=\"{Escape(vm.Key)}\"}}", value(vm.Value))));
        return text.ToString();

        void Add(string name, string kind, string help, IEnumerable<(string Labels, double Value)> samples)
        {
            text.Append(CultureInfo.InvariantCulture, $"# HELP {name} {help}\n# TYPE {name} {kind}\n");
            foreach (var (labels, value) in samples)
                text.Append(CultureInfo.InvariantCulture, $"{name}{labels} {value:R}\n");
        }
    }

    private static string Escape(string label) => label.Replace("\\", "\\\\", StringComparison.Ordinal).Replace("\"", "\\\"", StringComparison.Ordinal).Replace("\n", "\\n", StringComparison.Ordinal);

    private sealed class Counts
    {
        public bool IsThere { get; private set; } = true;

        public bool IsPaused { get; private set; }

        public bool HasMasterClock { get; private set; } = true;

        public long Pauses { get; private set; }

        public long Corrections { get; private set; }

        public long Refusals { get; private set; }

        public double LostSeconds { get; private set; }

        public double CorrectedSeconds { get; private set; }

        public double HeldSeconds { get; private set; }

        public void Take(KvmClockEvent occurred)
        {
            var kind = occurred.Kind;
            var lost = (occurred.LostNanoseconds ?? 0) / 1e9;
            if (kind is not (KvmClockEventKind.Refused or KvmClockEventKind.WouldCorrect)) // of the same stop as what is refused
                HeldSeconds += (occurred.StoppedMicroseconds ?? 0) / 1e6;
            IsThere = kind != KvmClockEventKind.Ended;
            switch (kind)
            {
                case KvmClockEventKind.Paused:
                    (IsPaused, Pauses) = (true, Pauses + 1);
                    break;
                case KvmClockEventKind.Resumed or KvmClockEventKind.Ended or KvmClockEventKind.Found:
                    IsPaused = false;
                    break;
                case KvmClockEventKind.SetBack or KvmClockEventKind.Excluded:
                    LostSeconds += lost;
                    break;
                case KvmClockEventKind.Corrected:
                    LostSeconds += lost;
                    (Corrections, CorrectedSeconds) = (Corrections + 1, CorrectedSeconds + lost);
                    break;
                case KvmClockEventKind.Refused:
                    Refusals++;
                    break;
                case KvmClockEventKind.MasterClockLost or KvmClockEventKind.MasterClockRegained:
                    HasMasterClock = kind == KvmClockEventKind.MasterClockRegained;
                    break;
            }
        }
    }
}
