using System.Diagnostics;
using System.Globalization;
using System.Runtime.ExceptionServices;
using KvmTsc.Arithmetic;
using KvmTsc.Clocks;
using KvmTsc.Discovery;
using KvmTsc.Execution;
using KvmTsc.Execution.Attach;
using KvmTsc.Interop;
using KvmTsc.Machines;
using KvmTsc.Migration;
using KvmTsc.Migration.Preflight;
using KvmTsc.Processes;
using KvmTsc.Tests.Discovery;
using KvmTsc.Tests.Kernel;
using KvmTsc.Tests.Simulation;

namespace KvmTsc.Tests.Attach;

/// <summary>Works inside processes that know nothing of KvmTsc, with debugfs as the witness.</summary>
[Collection(KvmCollection.Name)]
[Trait("Category", "Kvm")]
public sealed class AttachedExecutorTests(Programs programs, ITestOutputHelper output)
{
    private static readonly string[] s_running = ["vm", "vcpu", "0", "0", "vcpu", "0", "1", "vcpu", "0", "2", "spin", "1", "halt", "2", "spin", "3"];

    [Fact]
    public void The_clocks_of_a_running_VM_are_read_in_one_stop()
    {
        using var other = OtherProcess.StartReady(programs.VMs, s_running);
        var machine = RunningVM(other);
        var state = KvmTscState.Save(machine, force: false, CancellationToken.None);
        Assert.Equal([0, 1, 2], state.Vcpus.Select(vcpu => vcpu.VcpuId));
        Assert.All(state.Vcpus, vcpu => Assert.Equal(OffsetInDebugfs(machine, vcpu.VcpuId), vcpu.OffsetTicks));
        Assert.True(state.StoppedMicroseconds > 0);
    }

    [Fact]
    public void Offsets_that_are_written_show_in_debugfs_and_the_process_is_as_before()
    {
        using var other = OtherProcess.StartReady(programs.VMs, s_running);
        var machine = RunningVM(other);
        var before = TracesIn(other.Id);
        for (var i = 0; i < 20; i++)
        {
            var offset = GuestTsc.ReadOffsets(machine, null, CancellationToken.None)[0].OffsetTicks + 1_000_000;
            GuestTsc.SetOffsets(machine, machine.VcpuIds.ToDictionary(id => id, _ => offset), force: false, CancellationToken.None);
            Assert.All(machine.VcpuIds, id => Assert.Equal(offset, OffsetInDebugfs(machine, id)));
        }

        // The carrier unmaps the payload on its way home, when it next gets a CPU.
        Assert.Equal(before, Until.True(() => TracesIn(other.Id), traces => traces == before));
        Assert.False(other.HasExited);
    }

    [Fact]
    public void A_frozen_process_is_refused_untouched_and_worked_in_once_it_is_thawed()
    {
        using var other = OtherProcess.StartReady(programs.VMs, s_running);
        var machine = RunningVM(other);
        var group = Directory.CreateDirectory($"/sys/fs/cgroup/kvmtsc-{other.Id}").FullName;
        try
        {
            File.WriteAllText($"{group}/cgroup.procs", $"{other.Id}");
            File.WriteAllText($"{group}/cgroup.freeze", "1");
            Until.True(() => File.ReadAllText($"{group}/cgroup.events"), events => events.Contains("frozen 1", StringComparison.Ordinal));
            var refused = Assert.Throws<KvmException>(() => GuestTsc.ReadOffsets(machine, null, CancellationToken.None));
            Assert.Equal(KvmErrorId.AttachUnsupported, refused.ErrorId);
            Assert.Contains(group, refused.Message, StringComparison.Ordinal);
            Assert.Equal(0, TracerOf($"/proc/{other.Id}"));

            File.WriteAllText($"{group}/cgroup.freeze", "0");
            Until.True(() => File.ReadAllText($"{group}/cgroup.events"), events => events.Contains("frozen 0", StringComparison.Ordinal));
            Assert.Equal(3, GuestTsc.ReadOffsets(machine, null, CancellationToken.None).Count);
        }
        finally
        {
            File.WriteAllText($"{group}/cgroup.freeze", "0");
            File.WriteAllText("/sys/fs/cgroup/cgroup.procs", $"{other.Id}");
            Directory.Delete(group);
        }
    }

    [Fact]
    public void Without_debugfs_all_threads_are_stopped_and_come_to_no_harm()
    {
        using var other = OtherProcess.StartReady(programs.VMs, s_running);
        var machine = RunningVM(other);
        var before = TracesIn(other.Id);
        var executor = new AttachedExecutor(machine.Target with { DebugfsDirectory = null });
        var (clock, offsets) = Read(executor, machine);
        Assert.Equal(KvmClockFlags.TscStable | KvmClockFlags.Realtime | KvmClockFlags.HostTsc, (KvmClockFlags)clock.Flags);
        Assert.All(offsets, vcpu => Assert.Equal(OffsetInDebugfs(machine, vcpu.Key), vcpu.Value));
        Assert.Equal(before, Until.True(() => TracesIn(other.Id), traces => traces == before));
    }

    [Fact]
    public void A_VM_that_never_ran_is_worked_on_as_well()
    {
        using var other = OtherProcess.StartReady(programs.VMs, "vm", "vcpu", "0", "0", "vcpu", "0", "1");
        var machine = other.FindOne();
        GuestTsc.SetOffsets(machine, new Dictionary<int, long> { [0] = -5, [1] = -5 }, force: false, CancellationToken.None);
        Assert.All(machine.VcpuIds, id => Assert.Equal(-5, OffsetInDebugfs(machine, id)));
    }

    [Fact]
    public void While_a_VM_stands_still_its_tracer_comes_first_and_after_that_no_more()
    {
        using var other = OtherProcess.StartReady(programs.VMs, s_running);
        var machine = RunningVM(other);
        Assert.Equal(LibC.SCHED_FIFO | LibC.SCHED_RESET_ON_FORK, Stop(machine.Executor, _ => LibC.GetScheduling()));
        Assert.Equal(0, LibC.GetScheduling());
    }

    [Fact]
    public void A_thread_that_no_signal_interrupts_is_an_error_and_nobody_waits_for_it()
    {
        using var other = OtherProcess.StartReady(programs.VMs, "vm", "vcpu", "0", "0", "stuck");
        var machine = other.FindOne();
        var executor = new AttachedExecutor(machine.Target with { DebugfsDirectory = null }); // so that all threads have to be stopped
        string main = $"/proc/{other.Id}/task/{other.Id}", stuck = $"/proc/{other.Id}/task/{other.Threads[0]}";
        Until.True(() => ProcessStatus.Read(stuck)!.State, state => state == 'D');
        var exception = Assert.Throws<KvmException>(() => Stop(executor, _ => 0));
        Assert.Equal(KvmErrorId.AttachFailed, exception.ErrorId);
        Assert.StartsWith($"Thread {other.Threads[0]} of ", exception.Message, StringComparison.Ordinal);
        Until.True(() => TracersOf(other), tracers => tracers == 0);
        Assert.Equal('D', ProcessStatus.Read(stuck)!.State);
        Assert.NotEqual('t', ProcessStatus.Read(main)!.State);
        other.Tell("u");
        Stop(executor, _ => Assert.NotEqual(0, TracerOf(main)));
    }

    [Fact]
    public void A_process_that_is_frozen_while_it_is_stopped_is_an_error_and_goes_on_as_it_was_when_it_is_thawed()
    {
        using var other = OtherProcess.StartReady(programs.VMs, s_running);
        var machine = RunningVM(other);
        using var group = new FrozenGroup(other.Id);
        var preparation = AttachPreparation.Of(machine.Target); // it was not frozen when this looked
        group.Freeze();
        var executor = (AttachedExecutor)machine.Executor;
        var exception = Assert.Throws<KvmException>(() => TracerThread.Run(
            _ =>
            {
                using var stop = AttachedStop.TryStop(executor, preparation, null);
                return 0;
            },
            () => { },
            CancellationToken.None));
        Assert.Equal(KvmErrorId.AttachFailed, exception.ErrorId);
        Assert.Contains("control group", exception.RecommendedAction, StringComparison.Ordinal);
        Until.True(() => TracersOf(other), tracers => tracers == 0);
        group.Thaw();
        Until.True(() => machine.DescribeVcpus()[0].State, state => state == KvmVcpuState.Running);
        _ = GuestClock.Read(machine, CancellationToken.None);
    }

    /// <summary>Even where we had no time for anything for longer than it takes to be continued.</summary>
    [Theory]
    [InlineData("-STOP")]
    [InlineData("-TSTP")]
    public void A_VM_that_is_watched_does_not_stand_still_because_this_process_is_to(string signal)
    {
        const int Limit = 60;
        using var other = OtherProcess.StartReady(programs.VMs, "vm", "vcpu", "0", "0", "vcpu", "0", "1");
        var machine = other.FindOne();
        using var cancellation = new CancellationTokenSource();
        using var rescue = OtherProcess.Start("sh", "-c", $"sleep {Limit}; kill -CONT {Environment.ProcessId}");
        var clock = Stopwatch.StartNew();
        var signalled = false;
        Assert.ThrowsAny<OperationCanceledException>(() => ((AttachedExecutor)machine.Executor).WhileHeldAtResume(
            _ => 0,
            TimeSpan.FromMinutes(5),
            (_, _) =>
            {
                if (signalled)
                {
                    cancellation.Cancel();
                    return;
                }

                Thread.Sleep(TimeSpan.FromSeconds(1));
                Signal(signal, Environment.ProcessId);
                signalled = true;
            },
            cancellation.Token));
        Assert.InRange(clock.Elapsed.TotalSeconds, 0, Limit - 1);
        rescue.Kill();
    }

    [Fact]
    public void Of_a_VM_that_never_ran_one_thread_is_stopped_and_no_other_is_waited_for()
    {
        using var other = OtherProcess.StartReady(programs.VMs, "vm", "vcpu", "0", "0", "vcpu", "0", "1", "idle", "stuck", "idle");
        Stop(other.FindOne().Executor, _ =>
        {
            Assert.Single(Directory.GetDirectories($"/proc/{other.Id}/task"), thread => TracerOf(thread) != 0);
            Assert.Equal(0, TracerOf($"/proc/{other.Id}"));
        });
    }

    [Fact]
    public void A_vCPU_that_runs_for_the_first_time_while_a_batch_wants_it_is_stopped_as_well()
    {
        using var other = OtherProcess.StartReady(programs.VMs, "vm", "vcpu", "0", "0", "vcpu", "0", "1", "idle");
        var machine = other.FindOne();
        var batch = new IoctlBatch();
        batch.SetOffset(0, batch.Reserve(unchecked((ulong)-1000)));
        var thread = 0;
        Stop(machine.Executor, stop =>
        {
            Elsewhere(() =>
            {
                other.Tell("1");
                thread = Until.True(() => ThreadInDebugfs(machine, 0), id => id != 0);
            });
            Assert.True(stop.Run(batch).Succeeded);
            // It let go of its vCPU, which was all that the batch waited for, and is on its way to its stop.
            Elsewhere(() => Until.True(() => ProcessStatus.Read($"/proc/{thread}")!.State, state => state == 't'));
        });

        Assert.Equal(-1000, OffsetInDebugfs(machine, 0));
        Assert.All(Directory.GetDirectories($"/proc/{other.Id}/task"), task => Assert.Equal(0, TracerOf(task)));
        Until.True(() => machine.DescribeVcpus()[0].State, state => state == KvmVcpuState.Running);
    }

    [Fact]
    public void A_batch_that_fails_inside_the_process_is_undone_there()
    {
        using var other = OtherProcess.StartReady(programs.VMs, s_running);
        var machine = RunningVM(other);
        var before = machine.VcpuIds.Select(id => OffsetInDebugfs(machine, id)).ToArray();
        var batch = new IoctlBatch();
        foreach (var id in machine.VcpuIds)
            batch.SetOffset(id, batch.Reserve(12345UL));
        batch.SetClock(new KvmClockData { Flags = 1 });
        foreach (var id in machine.VcpuIds)
            batch.AddUndo(1, ClockIoctls.OffsetStep(batch, id, KvmRequest.SetDeviceAttr, batch.Reserve(unchecked((ulong)before[id]))));
        batch.AddUndo(1, ClockIoctls.SetClockStep(batch, new KvmClockData { Flags = 1 }));
        batch.AddUndo(9, ClockIoctls.SetClockStep(batch, new KvmClockData { Flags = 1 }));
        var outcome = Stop(machine.Executor, stop => stop.Run(batch));
        Assert.Equal((machine.VcpuIds.Count, Errno.EINVAL), (outcome.FailedStep, outcome.ErrorNumber));
        Assert.Equal([machine.VcpuIds.Count], outcome.UndoFailures);
        Assert.Equal(before, machine.VcpuIds.Select(id => OffsetInDebugfs(machine, id)));
    }

    [Fact]
    public void The_payload_resolves_offsets_as_the_engine_does()
    {
        using var other = OtherProcess.StartReady(programs.VMs, s_running);
        var machine = RunningVM(other);
        (ulong Tsc, ulong Clock, uint KHz, TscRatio Ratio)[] cases =
        [
            (0, 0, 1, default),
            (ulong.MaxValue, ulong.MaxValue, uint.MaxValue, default),
            (1UL << 63, 1UL << 63, 2_100_000, new TscRatio((1UL << 48) / 3, 48)),
            (12345, ulong.MaxValue - 5, 3_000_123, new TscRatio(0xFF_FFFF_FFFF, 32)),
            (987_654_321, 1, 2_999_999, new TscRatio(5UL << 46, 48)),
        ];
        var batch = new IoctlBatch();
        var clock = batch.GetClock();
        var slots = cases.Select(given => batch.ResolveOffset(clock, given.Tsc, given.Clock, given.KHz, given.Ratio)).ToArray();
        var guest = (Tsc: batch.GetGuestTsc(machine.VcpuIds[0]), Offset: 5UL << 60);
        var byGuest = cases.Select(given => batch.ResolveOffset(clock, guest, given.Tsc, given.Clock, given.KHz)).ToArray();
        Assert.True(Stop(machine.Executor, stop => stop.Run(batch)).Succeeded);
        var now = batch.Read(clock);
        var scaled = unchecked(batch.Read(guest.Tsc).Data - guest.Offset);
        Assert.Equal(
            cases.Select(given => TscArithmetic.ResolveOffset(given.Tsc, given.Clock, scaled, now.Clock, given.KHz, TscRatio.None)), byGuest.Select(batch.Read));
        Assert.Equal(
            cases.Select(given => TscArithmetic.ResolveOffset(given.Tsc, given.Clock, now.HostTsc, now.Clock, given.KHz, given.Ratio)),
            slots.Select(batch.Read));
    }

    [Fact]
    public void The_payload_corrects_clocks_as_the_engine_does()
    {
        using var other = OtherProcess.StartReady(programs.VMs, s_running);
        var machine = RunningVM(other);
        (KvmClockData Source, uint? KHz)[] cases =
        [
            (default, null),
            (default, 2_100_000),
            (new KvmClockData { Clock = ulong.MaxValue, Realtime = ulong.MaxValue, HostTsc = 12_345 }, null),
            (new KvmClockData { Clock = 1UL << 63, Realtime = 1, HostTsc = 987_654 }, 800_000),
            (new KvmClockData { Clock = 77, Realtime = 1UL << 60, HostTsc = 1 }, 5_000_000),
        ];
        var (inside, here) = (new IoctlBatch(), new IoctlBatch());
        var clock = inside.GetClock();
        var slots = Add(inside, clock);
        Assert.True(Stop(machine.Executor, stop => stop.Run(inside)).Succeeded);
        var expected = Add(here, here.Reserve(inside.Read(clock)));
        Assert.True(BatchRunner.Run(here, (_, _, _) => throw new InvalidOperationException("no ioctl")).Succeeded);
        Assert.Equal(expected.Select(slot => here.Read(slot).Clock), slots.Select(slot => inside.Read(slot).Clock));

        Slot<KvmClockData>[] Add(IoctlBatch batch, Slot<KvmClockData> reading) => [.. cases.Select(given =>
        {
            var value = batch.Reserve(new KvmClockData { Clock = 5 });
            batch.CorrectClock(reading, given.Source, given.KHz, value);
            return value;
        })];
    }

    [Fact]
    public void An_attempt_may_fail_and_says_how()
    {
        using var other = OtherProcess.StartReady(programs.VMs, s_running);
        var machine = RunningVM(other);
        var batch = new IoctlBatch();
        var result = batch.Reserve<int>();
        batch.Add(new BatchStep(BatchStepKind.Attempt, null, 0, 0, ArgumentIsSlot: false, ResultSlot: result.Offset));
        var kHz = batch.GetTscKHz(0);
        Assert.True(Stop(machine.Executor, stop => stop.Run(batch)).Succeeded);
        Assert.True(batch.Read(result) < 0);
        Assert.Equal(machine.HostTsc.KHz, (uint)batch.Read(kHz));
    }

    [Fact]
    public void Clocks_migrate_between_processes_to_the_tick()
    {
        using var source = OtherProcess.StartReady(programs.VMs, s_running);
        using var destination = OtherProcess.StartReady(programs.VMs, s_running);
        var from = RunningVM(source);
        var to = RunningVM(destination);
        var result = TscMigration.Run(from, to, new TscRestoreOptions(Force: true), CancellationToken.None);
        Assert.Equal(0, result.ResidualTicks);
        Assert.All(to.VcpuIds, id => Assert.Equal(OffsetInDebugfs(from, id), OffsetInDebugfs(to, id)));
        Assert.InRange(Math.Abs(result.ClockResidualNanoseconds), 0, result.ErrorBoundNanoseconds);
    }

    [Fact]
    public void A_running_VM_whose_offsets_diverged_is_repaired_in_one_stop()
    {
        using var other = OtherProcess.StartReady(programs.VMs, s_running);
        var machine = RunningVM(other);
        var offset = OffsetInDebugfs(machine, 1);

        // Of vCPU 0, which spins: one that halts does not look at the offsets before it wakes.
        GuestTsc.SetOffsets(machine, new Dictionary<int, long> { [0] = offset + 3_000_000 }, force: true, CancellationToken.None);
        Until.True(() => GuestClock.Read(machine, CancellationToken.None), clock => clock.Flags == KvmClockFlags.None);

        var result = MasterClock.Repair(machine, 1, force: false, CancellationToken.None);
        Assert.Equal((KvmClockFlags.None, KvmClockFlags.TscStable | KvmClockFlags.Realtime | KvmClockFlags.HostTsc), (result.OldFlags, result.NewFlags));
        Assert.Equal([0, 3_000_000, 3_000_000], result.Vcpus.Select(vcpu => vcpu.AdvancedTicks));
        Assert.All(machine.VcpuIds, id => Assert.Equal(offset + 3_000_000, OffsetInDebugfs(machine, id)));
        Assert.Equal(result.NewFlags, GuestClock.Read(machine, CancellationToken.None).Flags);
        Assert.True(result.StoppedMicroseconds > 0);
    }

    [Fact]
    public void A_preflight_stops_a_running_VM_once_and_changes_nothing()
    {
        using var other = OtherProcess.StartReady(programs.VMs, s_running);
        var machine = RunningVM(other);
        var before = machine.VcpuIds.Select(id => OffsetInDebugfs(machine, id)).ToArray();
        var result = TscPreflight.Run(machine, null, new TscPreflightOptions(), CancellationToken.None).Result;
        Assert.True(result.Passed);
        Assert.Equal((null, ResidualMeasure.HostTsc), (result.VMName, result.MeasuredBy));
        Assert.True(result.SourceStoppedMicroseconds > 0);
        Assert.Equal(before, machine.VcpuIds.Select(id => OffsetInDebugfs(machine, id)));
    }

    [Theory]
    [InlineData(false, "filter")] // as QEMU has it: what is done here is not forbidden
    [InlineData(true, "strict")] // as Firecracker has it
    [InlineData(true, "filter", "strict")]
    public void A_process_under_a_seccomp_filter_is_worked_in_by_an_administrator(bool isLethal, params string[] filters)
    {
        using var other = OtherProcess.StartReady(programs.VMs, [.. filters, .. s_running]);
        var machine = RunningVM(other);
        var before = TracesIn(other.Id);
        GuestTsc.SetOffsets(machine, machine.VcpuIds.ToDictionary(id => id, _ => 777L), force: true, CancellationToken.None);
        Assert.All(machine.VcpuIds, id => Assert.Equal(777, OffsetInDebugfs(machine, id)));
        Assert.Equal(before, Until.True(() => TracesIn(other.Id), traces => traces == before)); // by itself, where no filter is suspended
        Assert.Equal(isLethal, machine.Executor.DeathIsLethal);
        Assert.Equal(isLethal, TscPreflight.Run(machine, null, new TscPreflightOptions(), CancellationToken.None).Result.Findings.Any(finding => finding.Check == "SeccompLethal"));
    }

    /// <summary>The first vCPU's thread may not set offsets, that of the second may.</summary>
    [Fact]
    public void Under_a_seccomp_filter_a_thread_carries_that_may()
    {
        using var other = OtherProcess.StartReady(programs.VMs, "vm", "vcpu", "0", "0", "thread", "strict", "spin", "1", "join", "vcpu", "0", "1", "spin", "2");
        var machine = RunningVM(other);
        GuestTsc.SetOffsets(machine, machine.VcpuIds.ToDictionary(id => id, _ => 777L), force: true, CancellationToken.None);
        Assert.All(machine.VcpuIds, id => Assert.Equal(777, OffsetInDebugfs(machine, id)));
        Assert.False(machine.Executor.DeathIsLethal);
    }

    [Fact]
    public void A_VM_that_is_gone_is_said_to_be()
    {
        using var other = OtherProcess.StartReady(programs.VMs, s_running);
        var machine = RunningVM(other);
        other.Kill();
        var error = Assert.Throws<KvmException>(() => GuestClock.Read(machine, CancellationToken.None));
        Assert.Equal(KvmErrorId.ProcessGone, error.ErrorId);
        Assert.NotEmpty(error.RecommendedAction);
    }

    [Fact]
    public void A_child_of_this_process_that_ends_while_it_stands_still_is_seen_to_end()
    {
        using var other = OtherProcess.StartReady(programs.VMs, s_running);
        Stop(RunningVM(other).Executor, _ => Kill(other.Id));
        other.AwaitExit();
    }

    [Fact]
    public void A_child_of_this_process_that_stands_still_is_not_taken_to_have_ended()
    {
        Assert.NotNull(DotNetChildren.Lock);
        using var other = OtherProcess.StartReady(programs.VMs, "vm", "vcpu", "0", "0");
        using var further = OtherProcess.StartReady(programs.VMs, "vm");
        Stop(other.FindOne().Executor, _ =>
        {
            Kill(further.Id); // of which .NET is told
            Thread.Sleep(TimeSpan.FromMilliseconds(100));
        });

        further.AwaitExit();
        Assert.False(other.HasExited);
        other.Kill();
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)] // only the vCPUs' threads are watched
    public void While_a_resume_is_waited_for_the_end_of_other_processes_is_seen_and_that_of_the_VM_not_before_it_ends(bool hasRun)
    {
        string[] paused = hasRun ? [] : ["-S"];
        using var qemu = OtherProcess.StartQemu(["-smp", "2", "-monitor", "stdio", .. paused]);
        var machine = Until.True(qemu.Find, found => found is [{ VcpuIds.Count: 2 }])[0];
        if (hasRun)
        {
            Until.True(() => machine.VcpuIds.All(id => ThreadInDebugfs(machine, id) != 0), haveRun => haveRun);
            qemu.Tell("stop");
            Until.True(() => machine.DescribeVcpus().All(vcpu => vcpu.State == KvmVcpuState.Stopped), areStopped => areStopped);
        }

        var ended = 0;
        using var cancellation = new CancellationTokenSource();
        Assert.ThrowsAny<OperationCanceledException>(() => ((AttachedExecutor)machine.Executor).WhileHeldAtResume(
            _ => 0,
            TimeSpan.FromMinutes(5),
            (_, _) =>
            {
                using var further = OtherProcess.Start("true");
                further.AwaitExit();
                if (++ended == 20)
                    cancellation.Cancel();
            },
            cancellation.Token));
        Assert.False(qemu.HasExited);
        qemu.Kill();
    }

    [Fact]
    public void A_process_that_ends_while_it_stands_still_has_its_parent_told()
    {
        using var parent = OtherProcess.StartParentOf(programs.VMs, s_running);
        var machine = ChildOf(parent, s_running.Count(word => word == "vcpu"));
        Stop(machine.Executor, _ => Kill(machine.Identity.ProcessId));
        parent.AwaitExit();
    }

    [Fact]
    public void A_process_that_ends_before_it_is_resumed_has_its_parent_told()
    {
        using var parent = OtherProcess.StartParentOfQemu("-smp", "2", "-S");
        var machine = ChildOf(parent, vcpus: 2);
        var executor = (AttachedExecutor)machine.Executor;
        var error = Assert.Throws<KvmException>(() => executor.WhileHeldAtResume(
            _ => 0, TimeSpan.FromMinutes(5), Once(() => Kill(machine.Identity.ProcessId)), CancellationToken.None));
        Assert.Equal(KvmErrorId.ProcessGone, error.ErrorId);
        parent.AwaitExit();
    }

    [Fact]
    public void Several_that_work_in_one_VM_take_turns()
    {
        using var other = OtherProcess.StartReady(programs.VMs, s_running);
        var machine = RunningVM(other);
        var offset = OffsetInDebugfs(machine, 0);
        var executors = Enumerable.Range(0, 3).Select(_ => new AttachedExecutor(machine.Target)).AsParallel().WithDegreeOfParallelism(3);
        executors.ForAll(executor =>
        {
            for (var i = 0; i < 15; i++)
                Assert.Equal(offset, Read(executor, machine).Offsets[0]);
        });
        Assert.Equal(0, TracersOf(other));
    }

    [Fact]
    public void One_that_waits_for_a_resume_is_named_to_others()
    {
        using var other = OtherProcess.StartReady(programs.VMs, "vm", "vcpu", "0", "0");
        var machine = other.FindOne();
        using var cancellation = new CancellationTokenSource();
        var seen = new List<KvmErrorId>();
        Assert.ThrowsAny<OperationCanceledException>(() => ((AttachedExecutor)machine.Executor).WhileHeldAtResume(
            _ => 0,
            TimeSpan.FromMinutes(5),
            Once(() =>
            {
                seen.Add(Assert.Throws<KvmException>(() => Stop(new AttachedExecutor(machine.Target), _ => 0)).ErrorId);
                cancellation.Cancel();
            }),
            cancellation.Token));
        Assert.Equal([KvmErrorId.BusyWithKvmTsc], seen);
    }

    [Fact]
    public void A_process_id_that_was_reused_is_noticed()
    {
        using var other = OtherProcess.StartReady(programs.VMs, s_running);
        var machine = RunningVM(other);
        var executor = new AttachedExecutor(machine.Target with { StartTime = machine.Target.StartTime - 1 });
        Assert.Equal(KvmErrorId.ProcessGone, Assert.Throws<KvmException>(() => Stop(executor, _ => 0)).ErrorId);
    }

    [Theory]
    [InlineData("web01")]
    [InlineData("web01,debug-threads=on")] // as libvirt has it: only the threads that will run the vCPUs are watched
    public void A_restore_at_resume_holds_a_QEMU_before_its_guest_runs(string name)
    {
        using var source = OtherProcess.StartReady(programs.VMs, s_running[..7].Append("spin").Append("1").ToArray());
        var state = KvmTscState.Save(RunningVM(source), force: false, CancellationToken.None);
        using var qemu = OtherProcess.StartQemu("-name", name, "-smp", "2", "-S", "-monitor", "stdio");
        var machine = Until.True(qemu.Find, found => found is [{ VcpuIds.Count: 2 }])[0];
        var restore = new TscRestore(machine, state, new TscRestoreOptions(Force: true));
        var result = restore.RunAtResume(
            TimeSpan.FromMinutes(5),
            Once(() =>
            {
                Assert.False(machine.GuestHasRun);
                qemu.Tell("cont");
            }),
            CancellationToken.None);
        Assert.Equal(0, result.ResidualTicks);
        Assert.All(machine.VcpuIds, id => Assert.Equal(state.Vcpus[0].OffsetTicks, OffsetInDebugfs(machine, id)));
        Until.True(() => machine.DescribeVcpus(), vcpus => vcpus.All(vcpu => vcpu.State is not KvmVcpuState.Stopped));
        Assert.Equal(0, TracersOf(qemu));
    }

    /// <summary>
    /// What a watch costs a VMM that never ran its VM: how often another thread of it reads 32 KiB, of how often it does without. Where all threads are watched
    /// 0.002 was measured here, and 0.04 on a CPU that is none of an emulator.
    /// </summary>
    [Theory]
    [InlineData(false, "vm", "vcpu", "0", "0", "decoy", "0", "busy")]
    [InlineData(true, "vm", "vcpu", "0", "0", "idle", "busy")]
    public void Of_a_VMM_that_names_its_threads_only_those_of_vCPUs_are_watched(bool watchesAll, params string[] what)
    {
        const double NotSlowed = 0.05; // the watch takes CPU, too
        using var other = OtherProcess.StartReady(programs.VMs, what);
        var machine = other.FindOne();
        var (alone, watched) = (ReadsIn(other.Id), 0.0);
        using var cancellation = new CancellationTokenSource();
        var threads = 0;
        Assert.ThrowsAny<OperationCanceledException>(() => ((AttachedExecutor)machine.Executor).WhileHeldAtResume(
            _ => 0,
            TimeSpan.FromMinutes(5),
            Once(() => // which may be told once more while the watch lets them go
            {
                threads = TracedOf(other);
                for (var i = 0; i < 5 && watched < alone * NotSlowed; i++) // others may have the CPU for a while
                    watched = ReadsIn(other.Id);
                cancellation.Cancel();
            }),
            cancellation.Token));
        output.WriteLine($"{alone:0} reads a second alone, {watched:0} watched ({watched / alone:0.00}), {threads} threads");
        Assert.Equal(watchesAll ? 3 : 1, threads);
        if (!watchesAll)
            Assert.InRange(watched / alone, NotSlowed, double.MaxValue);
    }

    [Fact]
    public void A_vCPU_that_a_thread_of_another_name_runs_is_not_missed_unseen()
    {
        using var other = OtherProcess.StartReady(programs.VMs, "vm", "vcpu", "0", "0", "decoy", "0");
        var machine = other.FindOne();
        var error = Assert.Throws<KvmException>(() => ((AttachedExecutor)machine.Executor).WhileHeldAtResume(
            _ => 0, TimeSpan.FromMinutes(5), Once(() => other.Tell("1")), CancellationToken.None));
        Refusal.AssertExplains(error, KvmErrorId.AttachFailed);
        Assert.Contains("not one of those that are named", error.Message);
        Assert.Equal(0, TracersOf(other));
    }

    /// <summary>How often a process reads in a second.</summary>
    private static double ReadsIn(int processId)
    {
        var (before, clock) = (Reads(), Stopwatch.StartNew());
        Thread.Sleep(500);
        return (Reads() - before) / clock.Elapsed.TotalSeconds;

        long Reads() => long.Parse(File.ReadLines($"/proc/{processId}/io").Single(line => line.StartsWith("syscr:", StringComparison.Ordinal))[6..]);
    }

    [Fact]
    public void Waiting_for_a_resume_that_does_not_come_ends_and_lets_go()
    {
        using var qemu = OtherProcess.StartQemu("-name", "web01", "-smp", "2", "-S");
        var machine = Until.True(qemu.Find, found => found is [{ VcpuIds.Count: 2 }])[0];
        var executor = (AttachedExecutor)machine.Executor;
        var error = Assert.Throws<KvmException>(() => executor.WhileHeldAtResume(_ => 0, TimeSpan.FromMilliseconds(300), (_, _) => { }, CancellationToken.None));
        Assert.Equal(KvmErrorId.ResumeTimeout, error.ErrorId);
        Assert.Equal(0, TracersOf(qemu));
    }

    [Fact]
    public void Waiting_for_a_resume_can_be_cancelled()
    {
        using var qemu = OtherProcess.StartQemu("-name", "web01", "-smp", "2", "-S");
        var machine = Until.True(qemu.Find, found => found is [{ VcpuIds.Count: 2 }])[0];
        using var cancellation = new CancellationTokenSource();
        var executor = (AttachedExecutor)machine.Executor;
        Assert.ThrowsAny<OperationCanceledException>(() => executor.WhileHeldAtResume(
            _ => 0, TimeSpan.FromMinutes(5), (_, _) => cancellation.Cancel(), cancellation.Token));
        Assert.Equal(0, TracersOf(qemu));
    }

    [Fact]
    public void A_vCPU_that_is_run_by_another_descriptor_of_it_is_held_as_well()
    {
        using var other = OtherProcess.StartReady(programs.VMs, "vm", "vcpu", "0", "0", "dup", "1");
        var machine = other.FindOne();
        var told = false;
        var offset = ((AttachedExecutor)machine.Executor).WhileHeldAtResume(
            stop =>
            {
                var batch = new IoctlBatch();
                batch.SetOffset(0, batch.Reserve(unchecked((ulong)-4321)));
                Assert.True(stop.Run(batch).Succeeded);
                return OffsetInDebugfs(machine, 0);
            },
            TimeSpan.FromMinutes(2),
            Once(() =>
            {
                other.Tell("2"); // the duplicate
                told = true;
            }),
            CancellationToken.None).Result;
        Assert.True(told);
        Assert.Equal(-4321, offset);
        Until.True(() => machine.DescribeVcpus()[0].State, state => state == KvmVcpuState.Running);
    }

    [Fact]
    public void A_process_that_is_stopped_by_a_signal_stays_so_while_its_resume_is_waited_for()
    {
        using var other = OtherProcess.StartReady(programs.VMs, "vm", "vcpu", "0", "0");
        var machine = other.FindOne();
        var (looks, step) = (0, 0);
        _ = ((AttachedExecutor)machine.Executor).WhileHeldAtResume(
            _ => 0,
            TimeSpan.FromMinutes(2),
            (_, held) =>
            {
                if (step == 0)
                {
                    Signal("-STOP", other.Id);
                    other.Tell("1"); // the vCPU is to run
                    step = 1;
                }
                else if (step == 1 && looks++ == 5)
                {
                    Assert.Equal(0, held);
                    Signal("-CONT", other.Id);
                    step = 2;
                }
            },
            CancellationToken.None);
        Assert.Equal(2, step);
    }

    [Fact]
    public void A_watch_ends_no_wait_of_the_process()
    {
        using var other = OtherProcess.StartReady(programs.VMs, "vm", "vcpu", "0", "0", "epoll", "epoll", "epoll", "epoll");
        var machine = other.FindOne();
        for (var i = 0; i < 5; i++)
        {
            var waiting = 0;
            using var cancellation = new CancellationTokenSource();
            Assert.ThrowsAny<OperationCanceledException>(() => ((AttachedExecutor)machine.Executor).WhileHeldAtResume(
                _ => 0,
                TimeSpan.FromMinutes(5),
                (_, _) =>
                {
                    if (++waiting > 3)
                        cancellation.Cancel();
                },
                cancellation.Token));
            Until.True(() => TracersOf(other), tracers => tracers == 0);
            Assert.All(other.Threads, id => Assert.True(Directory.Exists($"/proc/{other.Id}/task/{id}"), $"The wait of thread {id} was ended."));
        }
    }

    [Fact]
    public void A_thread_that_no_signal_ends_keeps_no_other_from_going_on_at_the_end_of_a_watch()
    {
        using var other = OtherProcess.StartReady(programs.VMs, "vm", "vcpu", "0", "0", "stuck", "idle", "idle");
        var machine = other.FindOne();
        using var cancellation = new CancellationTokenSource();
        Assert.ThrowsAny<OperationCanceledException>(() => ((AttachedExecutor)machine.Executor).WhileHeldAtResume(
            _ => 0, TimeSpan.FromMinutes(5), (_, _) => cancellation.Cancel(), cancellation.Token));
        // The kernel lets go of that one when the tracer's thread has ended, which .NET does not wait for.
        Until.True(() => TracersOf(other), tracers => tracers == 0);
        Until.True(() => Directory.GetDirectories($"/proc/{other.Id}/task").Any(task => ProcessStatus.Read(task)!.State == 't'), standsStill => !standsStill);
    }

    [Fact]
    public void A_watch_that_has_let_go_is_not_said_to_wait()
    {
        using var other = OtherProcess.StartReady(programs.VMs, "vm", "vcpu", "0", "0", "stuck", "idle", "idle");
        var machine = other.FindOne();
        using var cancellation = new CancellationTokenSource();
        var told = 0;
        Assert.ThrowsAny<OperationCanceledException>(() => ((AttachedExecutor)machine.Executor).WhileHeldAtResume(
            _ => 0,
            TimeSpan.FromMinutes(5),
            (_, _) =>
            {
                told++;
                cancellation.Cancel();
                Until.True(() => TracedOf(other), traced => traced <= 1); // that one goes on waiting in the kernel
            },
            cancellation.Token));
        Assert.Equal(1, told);
    }

    /// <summary>For what is to be done when a wait has begun: one is told of it about ten times a second.</summary>
    private static Action<TimeSpan, int> Once(Action action)
    {
        var isDone = false;
        return (_, _) =>
        {
            if (isDone)
                return;
            isDone = true;
            action();
        };
    }

    private static void Signal(string signal, int processId)
    {
        using var kill = OtherProcess.Start("kill", signal, processId.ToString(CultureInfo.InvariantCulture));
        kill.AwaitExit();
    }

    /// <summary>The VM of a process, once each of its vCPUs has run.</summary>
    private static ProcessMachine RunningVM(OtherProcess other) =>
        Until.True(other.Find, found => found is [var machine] && machine.Target.DebugfsDirectory is not null
            && machine.VcpuIds.Any(id => ThreadInDebugfs(machine, id) != 0))[0];

    private static int ThreadInDebugfs(ProcessMachine machine, int vcpuId) => int.Parse(
        File.ReadAllText($"{machine.Target.DebugfsDirectory}/vcpu{vcpuId}/pid").Trim('\0', '\n'), CultureInfo.InvariantCulture);

    private static long OffsetInDebugfs(ProcessMachine machine, int vcpuId) => long.Parse(
        File.ReadAllText($"{machine.Target.DebugfsDirectory}/vcpu{vcpuId}/tsc-offset").Trim('\0', '\n'), CultureInfo.InvariantCulture);

    /// <summary>What would be left behind: mappings, tracers, signal masks, stopped threads.</summary>
    private static string TracesIn(int processId)
    {
        var maps = File.ReadAllText($"/proc/{processId}/maps");
        var threads = Directory.GetDirectories($"/proc/{processId}/task").Order(StringComparer.Ordinal).Select(directory =>
            string.Join(' ', File.ReadLines($"{directory}/status").Where(line =>
                line.StartsWith("TracerPid", StringComparison.Ordinal) || line.StartsWith("Sig", StringComparison.Ordinal) || line.StartsWith("ShdPnd", StringComparison.Ordinal))));
        return maps + string.Join('\n', threads);
    }

    private static ProcessMachine ChildOf(OtherProcess parent, int vcpus)
    {
        var found = Until.True(VMDiscovery.All, all => all.Any(machine => machine.VcpuIds.Count == vcpus && IsChild(machine)));
        return (ProcessMachine)found.Single(IsChild);

        bool IsChild(Machine machine) => ProcessStatus.Read($"/proc/{machine.Identity.ProcessId}")?.ParentId == parent.Id;
    }

    private static void Kill(int processId)
    {
        using var process = Process.GetProcessById(processId);
        process.Kill();
    }

    /// <summary>0 if nobody traces any of its threads.</summary>
    private static int TracersOf(OtherProcess process) => Directory.GetDirectories($"/proc/{process.Id}/task").Sum(TracerOf);

    /// <summary>How many of its threads somebody traces.</summary>
    private static int TracedOf(OtherProcess process) => Directory.GetDirectories($"/proc/{process.Id}/task").Count(task => TracerOf(task) != 0);

    private static int TracerOf(string directory) => ProcessStatus.Read(directory)!.TracerId;

    private static T Stop<T>(IVMExecutor executor, Func<IVMStop, T> work) => executor.WhileStopped(work, CancellationToken.None).Result;

    private static void Stop(IVMExecutor executor, Action<IVMStop> work) => executor.WhileStopped(work, CancellationToken.None);

    private static (KvmClockData Clock, Dictionary<int, long> Offsets) Read(AttachedExecutor executor, ProcessMachine machine)
    {
        var batch = new IoctlBatch();
        var clock = batch.GetClock();
        var slots = machine.VcpuIds.ToDictionary(id => id, id => batch.GetOffset(id));
        Assert.True(Stop(executor, stop => stop.Run(batch)).Succeeded);
        return (batch.Read(clock), slots.ToDictionary(slot => slot.Key, slot => unchecked((long)batch.Read(slot.Value))));
    }

    /// <summary>Waits actively in a thread of its own: one that stops others is real-time, and would keep the only processor.</summary>
    private static void Elsewhere(Action action)
    {
        Exception? failure = null;
        var thread = new Thread(() =>
        {
            try
            {
                action();
            }
            catch (Exception e)
            {
                failure = e;
            }
        });
        thread.Start();
        thread.Join();
        if (failure is not null)
            ExceptionDispatchInfo.Throw(failure);
    }
}
