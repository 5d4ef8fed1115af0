using KvmTsc.Arithmetic;
using KvmTsc.Clocks;
using KvmTsc.Interop;
using KvmTsc.Migration;

namespace KvmTsc.Watching;

/// <summary>What became of a guest's clocks since they were last looked at.</summary>
internal enum ClockChange
{
    None,
    SetBack,
    SetForward,
    TscMoved,
    MasterClockLost,

    /// <summary>kvmclock was set back and the TSC moved, and no line is known that both are of.</summary>
    Unknown,
}

/// <summary>A judgement of a guest's clocks.</summary>
/// <param name="Change">What became of them.</param>
/// <param name="LostNanoseconds">By how much kvmclock is behind the line that it was on.</param>
/// <param name="Line">The line that the guest is to be on again, null where there is none.</param>
internal readonly record struct ClockVerdict(ClockChange Change, long LostNanoseconds, KvmTscState? Line);

/// <summary>
/// The lines that a guest's clocks were on, newest last: kvmclock and every vCPU's TSC as functions of the host's TSC, each by one state. A guest that is put back to an
/// earlier moment has the clocks of that, which are points of one of its lines; where they are of none, nothing is known of it.
/// </summary>
internal sealed class ClockHistory
{
    /// <summary>What is less is no loss: two readings of one clock.</summary>
    public const long NoticeableNanoseconds = 100_000;

    private const int MostLines = 16;

    /// <summary>
    /// By how much a VMM may save the TSC before kvmclock, and after. QEMU saves it when all but the last of the memory is written: before kvmclock, which comes after that,
    /// or, of a guest that somebody had paused, after kvmclock, which is then from when it was. hw/i386/kvm/clock.c, migration/savevm.c.
    /// </summary>
    private static readonly TimeSpan s_mostBefore = TimeSpan.FromSeconds(5);

    private static readonly TimeSpan s_mostAfter = TimeSpan.FromSeconds(60);

    /// <summary>How far a VMM may move kvmclock beside its line by CLOCK_REALTIME, which somebody may have set, or slewed, meanwhile.</summary>
    private static readonly TimeSpan s_mostBeside = TimeSpan.FromSeconds(1);

    /// <summary>A guest whose kvmclock is less begins anew: both clocks at nothing are a point of every line.</summary>
    private const ulong LeastNanoseconds = 5_000_000_000;

    private readonly List<KvmTscState> _lines = [];

    /// <summary>The line that its clocks are on, null if it is not known.</summary>
    public KvmTscState? Current => _lines.Count > 0 ? _lines[^1] : null;

    /// <summary>All of them.</summary>
    public IReadOnlyList<KvmTscState> Lines => _lines;

    /// <summary>Its clocks are on this line from now on.</summary>
    public void Add(KvmTscState line)
    {
        _lines.Remove(line);
        _lines.Add(line);
        if (_lines.Count > MostLines)
            _lines.RemoveAt(0);
    }

    /// <summary>Nothing is known of it any more.</summary>
    public void Clear() => _lines.Clear();

    /// <summary>Judges its clocks.</summary>
    /// <param name="now">The clocks.</param>
    /// <param name="offsetsWritten">The host's TSC when offsets were last written since the last judgement, null if they were not.</param>
    /// <param name="clockSet">The host's TSC when kvmclock was set, null if that is not known.</param>
    /// <param name="byGuest">Whether it was the guest itself that wrote them: it is not put back to an earlier moment then, whatever its TSC looks like.</param>
    /// <param name="isSuccessor">Whether all that is known is of another process, whose VM this one may be.</param>
    public ClockVerdict Judge(TscSnapshot now, ulong? offsetsWritten, ulong? clockSet, bool byGuest = false, bool isSuccessor = false)
    {
        if (!now.HasTriple)
            return new ClockVerdict(ClockChange.MasterClockLost, 0, null);
        if (Current is not { } current)
            return new ClockVerdict(ClockChange.None, 0, null);
        var lost = TscArithmetic.Distance(now.Clock.Clock, ClockAt(current, now.Clock.HostTsc));
        var moved = current.Vcpus.Any(vcpu => !now.Vcpus.TryGetValue(vcpu.VcpuId, out var values)
            || values.Offset != unchecked((ulong)vcpu.OffsetTicks) || values.KHz != vcpu.TscKHz);
        if (isSuccessor && moved && MovedOn(now) is { } movedOn)
            return movedOn;
        return lost switch
        {
            < -NoticeableNanoseconds => new ClockVerdict(ClockChange.SetForward, lost, null),
            <= NoticeableNanoseconds => new ClockVerdict(moved ? ClockChange.TscMoved : ClockChange.None, lost, null),
            _ when !moved && (byGuest || offsetsWritten is null) => new ClockVerdict(ClockChange.SetBack, lost, current),
            _ when byGuest => new ClockVerdict(ClockChange.Unknown, lost, null),
            _ => PutBack(now, lost, offsetsWritten, clockSet, isSuccessor),
        };
    }

    /// <summary>
    /// Its VMM has moved kvmclock on by CLOCK_REALTIME, and not the TSC (Firecracker when asked to, cloud-hypervisor): a guest that begins has no kvmclock that is by chance that
    /// of a line. What it lost is its TSC.
    /// </summary>
    private ClockVerdict? MovedOn(TscSnapshot now)
    {
        var host = now.Clock.HostTsc;
        KvmTscState[] possible = [.. _lines.Where(line => now.Clock.Clock >= LeastNanoseconds
            && Math.Abs((double)TscArithmetic.Distance(now.Clock.Clock, ClockAt(line, host))) <= s_mostBeside.TotalNanoseconds
            && Behind(now, line) > NoticeableNanoseconds)];
        return LastOfOneTsc(possible) is { } last ? new ClockVerdict(ClockChange.SetBack, Behind(now, last), last) : null;
    }

    /// <summary>The last of some lines, null if there are none, or their TSCs differ.</summary>
    private static KvmTscState? LastOfOneTsc(KvmTscState[] lines) => lines is [.., var last] && lines.All(line => HaveOneTsc(line, last)) ? last : null;

    /// <summary>By how much the TSC of the vCPU that is least behind that line's is, in nanoseconds.</summary>
    public static long Behind(TscSnapshot now, KvmTscState line) => line.Vcpus.Min(vcpu => now.Vcpus.TryGetValue(vcpu.VcpuId, out var values) && values.KHz == vcpu.TscKHz
        ? (long)TscArithmetic.NanosecondsIn(TscArithmetic.Distance(values.Offset, unchecked((ulong)vcpu.OffsetTicks)), vcpu.TscKHz)
        : 0);

    /// <summary>
    /// The guest has clocks of an earlier moment: that line is its own of which they are a point, but for the time between the savings of both. Where lines with
    /// different TSCs may be it, as of a guest that was reset when it had run for a minute, it is none. In a new process kvmclock may also be of long before the TSC: of when
    /// somebody had paused it, or, with crosvm, of its first pause ever.
    /// </summary>
    private ClockVerdict PutBack(TscSnapshot now, long lost, ulong? offsetsWritten, ulong? clockSet, bool isSuccessor)
    {
        var host = now.Clock.HostTsc;
        KvmTscState[] possible = Possible(s_mostAfter);
        if (possible.Length == 0 && isSuccessor)
            possible = [.. Possible(TimeSpan.MaxValue).Where(line => Behind(now, line) > NoticeableNanoseconds)];
        return LastOfOneTsc(possible) is { } last
            ? new ClockVerdict(ClockChange.SetBack, TscArithmetic.Distance(now.Clock.Clock, ClockAt(last, host)), last)
            : new ClockVerdict(ClockChange.Unknown, lost, null);

        KvmTscState[] Possible(TimeSpan mostAfter) =>
            [.. _lines.Where(line => After(line) is { } after && after >= -s_mostBefore.TotalSeconds && after <= mostAfter.TotalSeconds)];

        // By how many seconds the TSC that was written is later than the line's when its kvmclock was what was set.
        double? After(KvmTscState line)
        {
            var first = line.Vcpus[0];
            if (!now.Vcpus.TryGetValue(first.VcpuId, out var values) || values.KHz != first.TscKHz)
                return null;
            var since = Scale(line).Apply(host - (clockSet ?? host));
            if (now.Clock.Clock < since + LeastNanoseconds)
                return null;
            var clock = now.Clock.Clock - since;
            var due = TscArithmetic.GuestTsc(line.HostTscAt(clock), first.Ratio, unchecked((ulong)first.OffsetTicks));
            var written = TscArithmetic.GuestTsc(offsetsWritten ?? host, first.Ratio, values.Offset);
            return TscArithmetic.Distance(due, written) / (first.TscKHz * 1e3);
        }
    }

    private static bool HaveOneTsc(KvmTscState one, KvmTscState other) => one.Vcpus.Select(vcpu => vcpu.OffsetTicks).SequenceEqual(other.Vcpus.Select(vcpu => vcpu.OffsetTicks));

    private static ulong ClockAt(KvmTscState line, ulong hostTsc) => unchecked(line.ClockNanoseconds + Scale(line).Apply(hostTsc - line.HostTsc));

    private static PvclockScale Scale(KvmTscState line) => PvclockScale.ToNanoseconds(line.Host.TscKHz);
}
