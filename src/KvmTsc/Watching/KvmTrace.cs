using System.Globalization;
using System.Text;
using KvmTsc.Interop;
using KvmTsc.Processes;

namespace KvmTsc.Watching;

/// <summary>
/// Some of KVM's tracepoints, in an instance of tracefs that is our own: nobody else's tracing is touched, and it ends with us. One that a watch left that was killed is
/// removed by the next. Documentation/trace/ftrace.rst.
/// </summary>
internal sealed class KvmTrace : IDisposable
{
    /// <summary>The tracepoint of a master clock that is taken anew.</summary>
    public const string MasterClock = "kvm_update_master_clock";

    /// <summary>The tracepoint of an offset that is written.</summary>
    public const string Offset = "kvm_write_tsc_offset";

    /// <summary>The tracepoint of an offset that KVM compares with those of other vCPUs, once it is written: for a VMM, not for a guest.</summary>
    public const string Tracked = "kvm_track_tsc";

    /// <summary>The tracepoint of a return from KVM_RUN.</summary>
    public const string Exit = "kvm_userspace_exit";

    private const string Prefix = "kvmtsc-";
    private static readonly string[] s_roots = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];
    private static int s_count;

    private readonly string _directory;
    private readonly SafeDescriptor _pipe;
    private readonly byte[] _buffer = new byte[65536];
    private string _unfinished = "";

    private KvmTrace(string directory, SafeDescriptor pipe)
    {
        _directory = directory;
        _pipe = pipe;
    }

    /// <summary>To be waited for: it can be read when there are events.</summary>
    public int Descriptor => _pipe.Number;

    /// <summary>Begins to trace what sets clocks.</summary>
    /// <exception cref="KvmException">There is no tracefs, or no right to it.</exception>
    public static KvmTrace OfClocks() => Begin(directory =>
    {
        Enable(directory, MasterClock);
        Enable(directory, Offset);
        Enable(directory, Tracked);
    });

    /// <summary>Begins to trace returns from KVM_RUN that a signal caused.</summary>
    /// <exception cref="KvmException">There is no tracefs, or no right to it.</exception>
    public static KvmTrace OfExits() => Begin(directory =>
    {
        File.WriteAllText($"{directory}/events/kvm/{Exit}/filter", "errno == -4"); // EINTR
        Enable(directory, Exit);
    });

    /// <summary>The events that there are.</summary>
    public IReadOnlyList<TraceEvent> Read()
    {
        var events = new List<TraceEvent>();
        for (int length; (length = LibC.Read(_pipe, _buffer)) > 0;)
        {
            var lines = (_unfinished + Encoding.UTF8.GetString(_buffer, 0, length)).Split('\n');
            events.AddRange(lines.SkipLast(1).Select(TraceEvent.Parse).OfType<TraceEvent>());
            _unfinished = lines[^1];
        }

        return events;
    }

    /// <summary>
    /// Begins anew, with the time of events by the TSC that there is now: where that began anew itself, the kernel gives all events the last time before, for a while. Those that were not
    /// read are lost.
    /// </summary>
    public void Restart()
    {
        SetClock(_directory);
        _ = Read();
        _unfinished = "";
    }

    /// <summary>It is by the TSC; setting it empties the buffers.</summary>
    private static void SetClock(string directory) => File.WriteAllText($"{directory}/trace_clock", "x86-tsc");

    public void Dispose()
    {
        _pipe.Dispose();
        Remove(_directory);
    }

    private static void Enable(string directory, string name) => File.WriteAllText($"{directory}/events/kvm/{name}/enable", "1");

    private static KvmTrace Begin(Action<string> enable)
    {
        var instances = Instances();
        RemoveAbandoned(instances);
        var directory = string.Create(
            CultureInfo.InvariantCulture, $"{instances}/{Prefix}{Environment.ProcessId}-{ProcessStat.Read("/proc/self")?.StartTime}-{Interlocked.Increment(ref s_count)}");
        try
        {
            Directory.CreateDirectory(directory);
            SetClock(directory);
            File.WriteAllText($"{directory}/buffer_percent", "0"); // who waits is woken by the first event
            enable(directory);
            var descriptor = LibC.Open($"{directory}/trace_pipe", LibC.O_NONBLOCK | LibC.O_CLOEXEC);
            if (descriptor < 0)
                throw KvmException.FromErrno("Opening trace_pipe", -descriptor);
            return new KvmTrace(directory, new SafeDescriptor(descriptor));
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException or KvmException)
        {
            Remove(directory);
            throw Unavailable(exception.Message.TrimEnd('.'), exception);
        }
    }

    private static string Instances() => s_roots.Select(root => $"{root}/instances").FirstOrDefault(Directory.Exists)
        ?? throw Unavailable("it is not mounted, or not to be looked at", null);

    /// <summary>Removes what a watch left that was killed.</summary>
    private static void RemoveAbandoned(string instances)
    {
        foreach (var directory in Directory.EnumerateDirectories(instances, $"{Prefix}*").Where(IsAbandoned).ToArray())
            Remove(directory);
    }

    private static bool IsAbandoned(string directory) =>
        Path.GetFileName(directory).Split('-') is [_, var id, var startTime, _]
        && ProcessStat.Read($"/proc/{id}")?.StartTime.ToString(CultureInfo.InvariantCulture) != startTime;

    private static void Remove(string directory)
    {
        try
        {
            if (Directory.Exists(directory))
                LibC.Rmdir(directory); // which only the kernel can empty
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            // The next watch removes it.
        }
    }

    private static KvmException Unavailable(string why, Exception? exception) => new(
        KvmErrorId.TracefsUnavailable,
        $"KVM's clocks cannot be watched: tracefs cannot be used: {why}.",
        "Run as root, outside containers, with tracefs mounted (mount -t tracefs none /sys/kernel/tracing).",
        exception);
}
