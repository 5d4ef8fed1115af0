using KvmTsc.Clocks;
using KvmTsc.Migration;
using KvmTsc.Tests.Simulation;

namespace KvmTsc.Tests.Migration;

/// <summary>
/// Every operation that writes, with every one of its ioctls failing in turn: the VM is as before, and the error says what failed.
/// </summary>
public sealed class FaultTests
{
    private const int ENOMEM = 12;
    private const int EINVAL = 22;

    private static readonly string[] s_operations = ["restore", "restore as documented", "restore on one host", "set offsets", "set one offset", "set frequencies", "set clock", "repair"];

    public static TheoryData<string, string> Cases
    {
        get
        {
            var data = new TheoryData<string, string>();
            foreach (var operation in s_operations)
            foreach (var kind in Enum.GetNames<DestinationKind>())
                data.Add(operation, kind);
            return data;
        }
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Whichever_ioctl_fails_everything_is_as_before(string operation, string kind) => ForEveryIoctl(operation, kind, (run, number) =>
    {
        run.Machine.Fault = ioctl => ioctl.Number == number ? ENOMEM : 0;
        var exception = Assert.Throws<KvmException>(run.Operate);

        var failed = run.Machine.Log[number];
        Assert.Equal(-ENOMEM, failed.Result);
        Refusal.AssertExplains(exception, KvmErrorId.IoctlFailed);
        Assert.Equal((failed.VcpuId, ENOMEM), (exception.VcpuId, exception.ErrorNumber));
        Assert.Contains(NameOf(failed.Request), exception.Message, StringComparison.Ordinal);
        Assert.Contains("Cannot allocate memory", exception.Message, StringComparison.Ordinal);
        if (failed.VcpuId is { } id)
            Assert.Contains($"vCPU {id} of {run.Machine.Identity.Name}", exception.Message, StringComparison.Ordinal);
        run.AssertAsBefore();
        Assert.Contains(run.HasWritten(number) ? "was put back" : "Nothing was changed", exception.Message, StringComparison.Ordinal);
    });

    [Theory]
    [MemberData(nameof(Cases))]
    public void If_the_undoing_fails_as_well_that_is_said(string operation, string kind) => ForEveryIoctl(operation, kind, (run, number) =>
    {
        run.Machine.Fault = ioctl => ioctl.Number >= number ? ENOMEM : 0;
        var exception = Assert.Throws<KvmException>(run.Operate);

        var failed = run.Machine.Log[number];
        Assert.Equal((failed.VcpuId, ENOMEM), (exception.VcpuId, exception.ErrorNumber));
        Refusal.AssertExplains(exception, run.HasWritten(number) ? KvmErrorId.RollbackFailed : KvmErrorId.IoctlFailed);
        Assert.Equal(0, run.Machine.OpenStops);
        foreach (var undo in run.Machine.Log.Skip(number + 1).Where(ioctl => !ioctl.IsAttempt))
            Assert.Contains(NameOf(undo.Request) + (undo.VcpuId is { } id ? $" of vCPU {id}" : ""), exception.Message, StringComparison.Ordinal);
    });

    [Theory]
    [MemberData(nameof(Cases))]
    public void If_one_step_of_the_undoing_fails_all_others_are_done(string operation, string kind) => ForEveryIoctl(operation, kind, (run, number) =>
    {
        run.Machine.Fault = ioctl => ioctl.Number == number ? ENOMEM : 0;
        Assert.Throws<KvmException>(run.Operate);
        var undoing = run.Machine.Log.Skip(number + 1).ToArray();
        foreach (var broken in undoing.Where(ioctl => !ioctl.IsAttempt))
        {
            var again = new FaultRun(operation, Enum.Parse<DestinationKind>(kind));
            again.Machine.Fault = ioctl => ioctl.Number == number || ioctl.Number == broken.Number ? ENOMEM : 0;
            Refusal.AssertExplains(Assert.Throws<KvmException>(again.Operate), KvmErrorId.RollbackFailed);
            Assert.Equal(
                undoing.Select(ioctl => (ioctl.VcpuId, ioctl.Request)),
                again.Machine.Log.Skip(number + 1).Select(ioctl => (ioctl.VcpuId, ioctl.Request)));
            again.AssertAsBefore(except: broken);
        }
    });

    [Theory]
    [InlineData("set offsets")]
    [InlineData("repair")]
    [InlineData("restore")]
    public void What_is_only_for_the_guests_convenience_may_fail(string operation)
    {
        var attempts = new FaultRun(operation, DestinationKind.Ran).Operation.Where(ioctl => ioctl.IsAttempt).ToArray();
        Assert.NotEmpty(attempts);
        foreach (var attempt in attempts)
        {
            var run = new FaultRun(operation, DestinationKind.Ran);
            run.Machine.Fault = ioctl => ioctl.Number == attempt.Number ? ENOMEM : 0;
            run.Operate();
            Assert.Equal(-ENOMEM, run.Machine.Log[attempt.Number].Result);
        }
    }

    /// <summary>Where setting kvmclock took so long that it is off, all is written again.</summary>
    [Fact]
    public void What_fails_when_all_is_written_again_puts_back_what_was_written_first()
    {
        var (all, none) = WrittenTwice(null);
        Assert.Null(none);
        var batches = all.Machine.Log.Where(ioctl => ioctl.IsWrite && !ioctl.IsAttempt).GroupBy(ioctl => ioctl.Batch).Where(batch => batch.Any(ioctl => ioctl.Request == KvmIoctl.SetClock)).ToArray();
        var again = batches[^1];
        Assert.Equal(3, batches.Length);
        foreach (var failing in again)
        {
            var (run, exception) = WrittenTwice(failing.Number);
            Refusal.AssertExplains(exception!, KvmErrorId.IoctlFailed);
            Assert.Contains("was put back", exception!.Message, StringComparison.Ordinal);
            Assert.Equal(run.Picture, run.Machine.Picture());
        }
    }

    /// <summary>With different frequencies the master clock is off once they are written, and nothing could be corrected by it.</summary>
    [Fact]
    public void Where_that_cannot_be_done_it_is_left_at_that()
    {
        var (run, exception) = WrittenTwice(null, kHz: 1_100_000);
        Assert.Null(exception);
        Assert.NotEqual(run.Picture, run.Machine.Picture());
    }

    private static ((SimulatedMachine Machine, IReadOnlyList<SimulatedMachine.VcpuPicture> Picture) Run, KvmException? Exception) WrittenTwice(
        int? failing, uint? kHz = null)
    {
        var host = new SimulatedHost(HostSpec.Ordinary with { Scaling = TscScaling.Intel }, new SimulatedTime());
        var source = new SimulatedMachine(host, 0, 1);
        source.RunGuest();
        var state = KvmTscState.Save(source, force: false, CancellationToken.None);
        if (kHz is { } odd)
            state = state.With(vcpus: [state.Vcpus[0], new KvmVcpuTscState(1, state.Vcpus[1].OffsetTicks, odd, source.HostTsc.RatioFor(odd).Multiplier, host.FractionBits)]);
        var machine = new SimulatedMachine(host, 0, 1);
        machine.RunGuest();
        GuestTsc.SetOffsets(machine, machine.VcpuIds.ToDictionary(id => id, _ => -1_000_000_000_000), force: true, CancellationToken.None);
        var picture = machine.Picture();
        const int LastOfRestore = 3;
        var settings = 0;
        machine.Meddle = ioctl =>
        {
            if (ioctl.Request == KvmIoctl.SetClock && ++settings == LastOfRestore)
                Shift(machine, 1_000_000);
        };
        machine.Fault = ioctl => ioctl.Number == failing ? ENOMEM : 0;
        try
        {
            new TscRestore(machine, state, new TscRestoreOptions(Force: true)).Run(CancellationToken.None);
            return ((machine, picture), null);
        }
        catch (KvmException exception)
        {
            return ((machine, picture), exception);
        }
    }

    private static unsafe void Shift(SimulatedMachine machine, ulong nanoseconds)
    {
        var data = new Interop.KvmClockData { Clock = machine.VM.ReadClock().Clock + nanoseconds };
        Assert.Equal(0, machine.VM.Issue(null, KvmIoctl.SetClock, (nint)(&data)));
    }

    /// <summary>A pending timer fires by the offset that was in force when it was armed, and only when it is written is it armed anew.</summary>
    [Theory]
    [InlineData("set offsets")]
    [InlineData("repair")]
    [InlineData("restore")]
    [InlineData("restore on one host")]
    public void Whether_it_succeeds_or_fails_timers_are_armed_for_the_offset_that_is_there_afterwards(string operation)
    {
        foreach (var fails in (bool[])[false, true])
        {
            var run = new FaultRun(operation, DestinationKind.Ran);
            foreach (var vcpu in run.Machine.VM.Vcpus.Values)
                (vcpu.TscDeadline, vcpu.TscDeadlineOffset) = (123_456_789, vcpu.Offset);
            var ends = run.Operation.Last(ioctl => !ioctl.IsAttempt).Number;
            run.Machine.Fault = ioctl => fails && ioctl.Number == ends ? ENOMEM : 0;
            if (fails)
                Assert.Throws<KvmException>(run.Operate);
            else
                run.Operate();
            Assert.All(run.Machine.VM.Vcpus.Values, vcpu => Assert.Equal((123_456_789ul, vcpu.Offset), (vcpu.TscDeadline, vcpu.TscDeadlineOffset)));
        }
    }

    [Theory]
    [InlineData("set offsets")]
    [InlineData("repair")]
    [InlineData("restore")]
    public void A_guest_with_kvmclock_is_told_that_it_was_stopped(string operation)
    {
        var run = new FaultRun(operation, DestinationKind.Ran);
        foreach (var vcpu in run.Machine.VM.Vcpus.Values)
            vcpu.HasKvmclock = true;
        run.Operate();
        Assert.All(run.Machine.VM.Vcpus.Values, vcpu => Assert.Equal(1, vcpu.TimesToldOfStop));
    }

    [Theory]
    [InlineData("set offsets")]
    [InlineData("repair")]
    [InlineData("restore")]
    [InlineData("restore on one host")]
    public void An_offset_that_does_not_read_back_is_put_back(string operation)
    {
        foreach (var vcpuId in FaultRun.VcpuIds)
        {
            var run = new FaultRun(operation, DestinationKind.ClockSet);
            var offsets = run.Operation.Count(ioctl => ioctl.Request == KvmIoctl.SetDeviceAttr && ioctl.VcpuId == vcpuId);
            var seen = 0;
            run.Machine.Meddle = ioctl =>
            {
                if (ioctl.Request == KvmIoctl.SetDeviceAttr && ioctl.VcpuId == vcpuId && ++seen == offsets)
                    run.Machine.VM.Vcpus[vcpuId].Offset += 1;
            };
            var exception = Assert.Throws<KvmException>(run.Operate);
            Refusal.AssertExplains(exception, KvmErrorId.ReadBackMismatch);
            Assert.Equal((vcpuId, 0), (exception.VcpuId, exception.ErrorNumber));
            run.AssertAsBefore();
        }
    }

    [Fact]
    public void A_frequency_that_the_kernel_refuses_is_put_back_although_the_kernel_keeps_it()
    {
        foreach (var vcpuId in FaultRun.VcpuIds)
        {
            var run = new FaultRun("restore", DestinationKind.Ran);
            run.Machine.Fault = ioctl => ioctl.Request == KvmIoctl.SetTscKHz && ioctl.VcpuId == vcpuId && ioctl.Number <= run.Operation[^1].Number && !run.Failed ? EINVAL : 0;
            var exception = Assert.Throws<KvmException>(run.Operate);
            Refusal.AssertExplains(exception, KvmErrorId.FrequencyUnsupported);
            Assert.Equal((vcpuId, EINVAL), (exception.VcpuId, exception.ErrorNumber));
            run.AssertAsBefore();
        }
    }

    /// <summary>KVM never leaves its catch-up mode again.</summary>
    [Fact]
    public void What_nothing_can_put_back_is_said()
    {
        var machine = new SimulatedMachine(new SimulatedHost(HostSpec.Ordinary, new SimulatedTime()), 0, 1);
        var written = 0;
        machine.Fault = ioctl => ioctl.Request == KvmIoctl.SetTscKHz && written++ == 1 ? ENOMEM : 0;
        var exception = Assert.Throws<KvmException>(() => GuestTsc.SetFrequencies(
            machine, new Dictionary<int, uint> { [0] = 1_500_000, [1] = 1_500_000 }, force: true, CancellationToken.None));
        Refusal.AssertExplains(exception, KvmErrorId.RollbackFailed);
        Assert.Contains("was put back, but KVM goes on to push the TSC of vCPU 0 forward", exception.Message, StringComparison.Ordinal);
        Assert.Equal((1_000_000u, true, false), (machine.VM.Vcpus[0].VirtualKHz, machine.VM.Vcpus[0].CatchUp, machine.VM.Vcpus[1].CatchUp));
    }

    [Theory]
    [InlineData("restore")]
    [InlineData("restore on one host")]
    public void A_master_clock_that_goes_off_in_the_middle_leaves_everything_as_before(string operation)
    {
        var run = new FaultRun(operation, DestinationKind.ClockSet);
        run.Machine.VM.ClocksourceIsTsc = false;
        var exception = Assert.Throws<KvmException>(run.Operate);
        Refusal.AssertExplains(exception, KvmErrorId.ClockWithoutTriple);
        run.Machine.VM.ClocksourceIsTsc = true;
        run.Machine.RunGuest();
        run.AssertAsBefore();
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void A_cancelled_operation_does_not_begin(string operation, string kind)
    {
        var run = new FaultRun(operation, Enum.Parse<DestinationKind>(kind), new CancellationToken(canceled: true));
        var issued = run.Machine.Log.Count;
        Assert.Throws<OperationCanceledException>(run.Operate);
        Assert.Equal(issued, run.Machine.Log.Count);
        run.AssertAsBefore();
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Without_a_fault_every_case_succeeds(string operation, string kind)
    {
        var run = new FaultRun(operation, Enum.Parse<DestinationKind>(kind));
        run.Operate();
        Assert.True(run.HasWritten(int.MaxValue));
        Assert.Equal(0, run.Machine.OpenStops);
    }

    private static void ForEveryIoctl(string operation, string kind, Action<FaultRun, int> test)
    {
        foreach (var number in new FaultRun(operation, Enum.Parse<DestinationKind>(kind)).Operation.Where(ioctl => !ioctl.IsAttempt).Select(ioctl => ioctl.Number))
            test(new FaultRun(operation, Enum.Parse<DestinationKind>(kind)), number);
    }

    private static string NameOf(KvmIoctl request) => request switch
    {
        KvmIoctl.GetClock => "KVM_GET_CLOCK",
        KvmIoctl.SetClock => "KVM_SET_CLOCK",
        KvmIoctl.GetTscKHz => "KVM_GET_TSC_KHZ",
        KvmIoctl.SetTscKHz => "KVM_SET_TSC_KHZ",
        KvmIoctl.GetDeviceAttr => "KVM_GET_DEVICE_ATTR",
        KvmIoctl.SetDeviceAttr => "KVM_SET_DEVICE_ATTR",
        KvmIoctl.GetMsrs => "KVM_GET_MSRS",
        _ => throw new ArgumentOutOfRangeException(nameof(request)),
    };
}
