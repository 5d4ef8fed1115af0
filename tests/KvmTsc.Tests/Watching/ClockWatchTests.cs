using System.Globalization;
using KvmTsc.Clocks;
using KvmTsc.Discovery;
using KvmTsc.Hosts;
using KvmTsc.Interop;
using KvmTsc.Migration;
using KvmTsc.Processes;
using KvmTsc.Tests.Discovery;
using KvmTsc.Tests.Kernel;
using KvmTsc.Watching;

namespace KvmTsc.Tests.Watching;

/// <summary>What a watch makes of VMs whose threads get a CPU late.</summary>
[Collection(KvmCollection.Name)]
[Trait("Category", "Kvm")]
public sealed class ClockWatchTests(Programs programs)
{
    private const ulong Second = 1_000_000_000;

    private static readonly TimeSpan s_patience = TimeSpan.FromMinutes(2);

    private static readonly string[] s_pausable = ["vm", "vcpu", "0", "0", "late", "1"];

    [Fact]
    public void A_pause_is_seen_however_late_the_threads_of_vCPUs_come_to_rest()
    {
        using var other = StartPausable();
        Assert.Equal(["Found", "Paused"], WatchUntil("Paused", other, corrects: false, () => other.Tell("p")));
    }

    /// <summary>As where a VM is put back to a snapshot, while others have the CPUs: the threads of its vCPUs do not get as far as to wait.</summary>
    [Fact]
    public void A_VM_is_judged_when_it_has_got_back_both_clocks_however_long_after_the_other_one_comes()
    {
        using var other = StartPausable();
        var before = Grow(other);
        using var setsClock = new Timer(_ => other.Tell("k"));
        var told = WatchUntil("Corrected", other, corrects: true, () =>
        {
            other.Tell("pt");
            setsClock.Change(TimeSpan.FromSeconds(4), Timeout.InfiniteTimeSpan);
        });
        Assert.Equal(["Found", "Corrected"], told);
        Assert.Equal(before, OffsetOf(other.FindOne()));
    }

    [Fact]
    public void A_VM_whose_TSC_is_put_back_within_the_look_at_it_is_not_judged_by_that()
    {
        using var other = StartPausable();
        var before = Grow(other);
        using var vm = new WatchedVM(other.FindOne(), LibC.PidfdOpen(other.Id)!, new ClockPolicy(Corrects: true), acts: true, OpenStore());
        _ = vm.Look(_ => { }, CancellationToken.None);
        other.Tell("pt");
        Until.True(() => OffsetOf(vm.Machine), offset => offset != before);
        Assert.Empty(vm.Look(_ => Occurs(TraceEventKind.Offset, TraceEventKind.Tracked), CancellationToken.None));
        Assert.True(vm.HasNews);
        Assert.NotNull(vm.LookAt);
        var clock = GuestClock.Read(vm.Machine, CancellationToken.None).ClockNanoseconds;
        other.Tell("k");
        Until.True(() => GuestClock.Read(vm.Machine, CancellationToken.None).ClockNanoseconds, now => now < clock);
        Occurs(TraceEventKind.MasterClock);
        Assert.Equal(["Corrected"], vm.Look(_ => { }, CancellationToken.None).Select(occurred => occurred.Event));
        Assert.Equal(before, OffsetOf(vm.Machine));

        void Occurs(params TraceEventKind[] kinds)
        {
            foreach (var kind in kinds)
                vm.Note(new TraceEvent(kind, HostTsc.Read(), other.Threads[0]));
        }
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void What_is_corrected_before_the_guest_ran_is_told_from_what_came_too_late_for_that(bool isInTime)
    {
        using var other = StartPausable();
        using var vm = Pause(other);
        other.Tell("b");
        if (!isInTime)
            Resume(other, vm);
        IReadOnlyList<KvmClockEvent>? told = null;
        vm.Arm(events => Volatile.Write(ref told, events));
        if (isInTime)
        {
            Until.True(() => IsHeld(other), isHeld => isHeld);
            Resume(other, vm);
        }

        var corrected = Assert.Single(Until.True(() => Volatile.Read(ref told), events => events is not null)!, occurred => occurred.Event == "Corrected");
        Assert.Equal(isInTime, corrected.BeforeGuestRan);
        Assert.InRange(corrected.LostNanoseconds!.Value, 1_000_000_000, 1_100_000_000); // a slow host takes its time between reading the clock and setting it
    }

    [Fact]
    public void A_VM_in_which_another_is_at_work_for_long_when_it_is_to_be_held_is_held_after_that()
    {
        using var other = StartPausable();
        using var vm = Pause(other);
        IReadOnlyList<KvmClockEvent>? told = null;
        vm.Machine.Executor.WhileStopped(
            _ =>
            {
                vm.Arm(events => Volatile.Write(ref told, events));
                Thread.Sleep(TimeSpan.FromSeconds(3)); // that of another is over sooner
                return 0;
            },
            CancellationToken.None);
        Until.True(() => IsHeld(other), isHeld => isHeld || Volatile.Read(ref told) is not null);
        Resume(other, vm);
        var resumed = Until.True(() => Volatile.Read(ref told), events => events is not null)!;
        Assert.Equal(["Resumed"], resumed.Select(occurred => occurred.Event));
    }

    [Fact]
    public void A_VM_that_runs_when_another_traces_it_and_it_is_to_be_held_is_to_be_looked_at_and_refused_nothing_yet()
    {
        using var other = StartPausable();
        using var vm = Pause(other);
        Resume(other, vm);
        Assert.Equal(0, LibC.Ptrace(LibC.PTRACE_SEIZE, other.Id, 0, 0)); // of no vCPU; until it ends
        IReadOnlyList<KvmClockEvent>? told = null;
        vm.Arm(events => Volatile.Write(ref told, events));
        Assert.Empty(Until.True(() => Volatile.Read(ref told), events => events is not null)!);
        Assert.True(vm.TakeFailureToHold());
    }

    /// <summary>As where a VMM has much memory to fill before it creates vCPUs.</summary>
    [Fact]
    public void A_VM_that_had_no_vCPU_yet_when_it_was_found_is_watched_with_all_it_gets()
    {
        using var other = OtherProcess.StartReady(programs.VMs, "vm");
        using var setsBack = new Timer(_ => other.Tell("b"));
        var told = WatchUntil("Corrected", other, corrects: true, () =>
        {
            other.Tell("cc12");
            setsBack.Change(TimeSpan.FromSeconds(2), TimeSpan.FromSeconds(2)); // until it has seen its clocks before
        });
        Assert.Equal(["Found", "Corrected"], told);
    }

    [Fact]
    public void A_vCPU_that_was_plugged_in_is_put_right_with_all_others()
    {
        using var other = StartPausable();
        using var vm = new WatchedVM(other.FindOne(), LibC.PidfdOpen(other.Id)!, new ClockPolicy(Corrects: true), acts: true, OpenStore());
        _ = vm.Look(_ => { }, CancellationToken.None);
        other.Tell("c");
        var machine = Until.True(other.FindOne, machine => machine.VcpuIds.Count == 2);
        var offset = Until.True(() => KvmTscState.Save(machine, force: false, CancellationToken.None), state => state.ClockNanoseconds > 10 * Second).Vcpus[0].OffsetTicks;
        vm.TakeVcpus();
        _ = vm.Look(_ => { }, CancellationToken.None);
        Move(machine, -3);
        foreach (var kind in new[] { TraceEventKind.Offset, TraceEventKind.Tracked, TraceEventKind.MasterClock })
            vm.Note(new TraceEvent(kind, HostTsc.Read(), other.Threads[0]));
        Assert.Equal(["Corrected"], vm.Look(_ => { }, CancellationToken.None).Select(occurred => occurred.Event));
        Assert.Equal([offset, offset], KvmTscState.Save(machine, force: false, CancellationToken.None).Vcpus.Select(vcpu => vcpu.OffsetTicks));
    }

    /// <summary>Clocks that began at nothing together are a point of every line of which that is true.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)] // its kvmclock is more than its process is old
    public void A_VM_that_may_have_begun_anew_is_given_nothing_of_another_life(bool wasRestored)
    {
        using var other = StartPausable();
        var machine = other.FindOne();
        var clock = Until.True(() => GuestClock.Read(machine, CancellationToken.None).ClockNanoseconds, clock => clock > 7 * Second); // what is less is new in any case
        var older = (clock / Second) + 10;
        if (wasRestored)
            Move(machine, 1000);
        var now = KvmTscState.Save(machine, force: false, CancellationToken.None);
        var store = OpenStore();
        store.Keep(now.VMName!, [EarlierLife(now, older)]);
        using var vm = new WatchedVM(machine, LibC.PidfdOpen(other.Id)!, new ClockPolicy(Corrects: true), acts: true, store);
        Assert.True(vm.IsSuccessor);
        var events = vm.Look(_ => { }, CancellationToken.None);
        Assert.DoesNotContain(events, occurred => occurred.Reason is not null);
        Assert.Equal(wasRestored ? [older] : [], events.Where(occurred => occurred.Event == "Corrected").Select(occurred => (ulong)Math.Round(occurred.LostNanoseconds!.Value / 1e9)));
    }

    /// <summary>Watches its VM until an event of that name.</summary>
    /// <param name="last">That name.</param>
    /// <param name="other">Its process.</param>
    /// <param name="corrects">Whether it is given back what it loses.</param>
    /// <param name="found">What to do when it is found.</param>
    /// <returns>What was told of it, with reasons.</returns>
    private static List<string> WatchUntil(string last, OtherProcess other, bool corrects, Action found)
    {
        using var ended = new CancellationTokenSource(s_patience);
        List<string> told = [];
        ClockWatch.Run(
            new ClockWatchOptions(name => name == other.FindOne().Identity.Name ? new ClockPolicy(corrects) : null, corrects),
            occurred =>
            {
                if (occurred.ProcessId != other.Id)
                    return;
                told.Add($"{occurred.Event} {occurred.Reason}".Trim());
                if (occurred.Event == "Found")
                    found();
                else if (occurred.Event == last)
                    ended.Cancel();
            },
            ended.Token);
        return told;
    }

    /// <summary>What would be known of a VM that began so many seconds sooner, and was last seen as long ago.</summary>
    private static KvmTscState EarlierLife(KvmTscState now, ulong seconds)
    {
        var ticks = seconds * (ulong)now.Host.TscKHz * 1000;
        return new KvmTscState(
            now.VMName, now.ProcessId, now.VMId, now.Vmm, now.ClockNanoseconds, now.RealtimeNanoseconds - (seconds * Second), now.HostTsc - ticks,
            [.. now.Vcpus.Select(vcpu => new KvmVcpuTscState(vcpu.VcpuId, vcpu.OffsetTicks + (long)ticks, vcpu.TscKHz, vcpu.ScalingRatio, vcpu.ScalingFractionBits))],
            now.Host, now.StoppedMicroseconds, now.ToolVersion);
    }

    /// <summary>Moves both of its clocks, back only by force.</summary>
    private static void Move(ProcessMachine machine, int seconds)
    {
        var state = KvmTscState.Save(machine, force: false, CancellationToken.None);
        var offset = state.Vcpus[0].OffsetTicks + (seconds * (long)state.Host.TscKHz * 1000);
        GuestTsc.SetOffsets(machine, machine.VcpuIds.ToDictionary(id => id, _ => offset), force: true, CancellationToken.None);
        GuestClock.Set(
            machine, unchecked(GuestClock.Read(machine, CancellationToken.None).ClockNanoseconds + ((ulong)seconds * Second)), null, force: true, CancellationToken.None);
    }

    /// <summary>Has its clocks be those of one that has run for some time: with less it may be one that begins anew.</summary>
    /// <returns>The offset of its vCPU, in ticks.</returns>
    private static long Grow(OtherProcess other)
    {
        var machine = other.FindOne();
        Move(machine, 20);
        return OffsetOf(machine);
    }

    /// <summary>The offset of its first vCPU, in ticks.</summary>
    private static long OffsetOf(ProcessMachine machine) => GuestTsc.ReadOffsets(machine, null, CancellationToken.None)[0].OffsetTicks;

    private static LineStore OpenStore() => LineStore.Open(null, static () => LocalHost.Identify(LocalHost.Tsc.KHz));

    /// <summary>Watches its VM and has it paused.</summary>
    private static WatchedVM Pause(OtherProcess other)
    {
        var vm = new WatchedVM(
            other.FindOne(), LibC.PidfdOpen(other.Id)!, new ClockPolicy(Corrects: true), acts: true, OpenStore());
        Assert.DoesNotContain(vm.Look(_ => { }, CancellationToken.None), occurred => occurred.Reason is not null);
        other.Tell("p");
        Until.True(vm.LooksPaused, isPaused => isPaused);
        Assert.True(vm.MarkPaused());
        return vm;
    }

    /// <summary>Has its guest run.</summary>
    private static void Resume(OtherProcess other, WatchedVM vm)
    {
        var exits = vm.Machine.Debugfs!.ReadExits();
        other.Tell("r");
        Until.True(vm.Machine.Debugfs.ReadExits, now => now > exits);
    }

    private static bool IsHeld(OtherProcess other) =>
        other.Threads.All(id => ProcessStatus.Read($"/proc/{other.Id}/task/{id.ToString(CultureInfo.InvariantCulture)}")!.TracerId != 0);

    private OtherProcess StartPausable()
    {
        var other = OtherProcess.StartReady(programs.VMs, s_pausable);
        Until.True(() => other.Find() is [{ GuestHasRun: true }], hasRun => hasRun);
        return other;
    }
}
