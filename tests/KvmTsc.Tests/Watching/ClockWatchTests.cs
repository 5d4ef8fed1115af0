using System.Globalization;
using KvmTsc.Discovery;
using KvmTsc.Hosts;
using KvmTsc.Interop;
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
    private static readonly TimeSpan s_patience = TimeSpan.FromMinutes(2);

    private static readonly string[] s_pausable = ["vm", "vcpu", "0", "0", "late", "1"];

    [Fact]
    public void A_pause_is_seen_however_late_the_threads_of_vCPUs_come_to_rest()
    {
        using var other = StartPausable();
        using var ended = new CancellationTokenSource(s_patience);
        List<string> told = [];
        ClockWatch.Run(
            new ClockWatchOptions(name => name == other.FindOne().Identity.Name ? new ClockPolicy() : null),
            occurred =>
            {
                if (occurred.ProcessId != other.Id)
                    return;
                told.Add(occurred.Event);
                if (occurred.Event == "Found")
                    other.Tell("p");
                else if (occurred.Event == "Paused")
                    ended.Cancel();
            },
            ended.Token);
        Assert.Equal(["Found", "Paused"], told);
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
        Assert.InRange(corrected.LostNanoseconds!.Value, 1_000_000_000, 1_001_000_000);
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

    /// <summary>Watches its VM and has it paused.</summary>
    private static WatchedVM Pause(OtherProcess other)
    {
        var vm = new WatchedVM(
            other.FindOne(), LibC.PidfdOpen(other.Id)!, new ClockPolicy(Corrects: true), acts: true, LineStore.Open(null, static () => LocalHost.Identify(LocalHost.Tsc.KHz)));
        Assert.DoesNotContain(vm.Look(CancellationToken.None), occurred => occurred.Reason is not null);
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
