using System.Globalization;
using System.Text.Json;
using KvmTsc.Arithmetic;
using KvmTsc.Clocks;
using KvmTsc.Hosts;
using KvmTsc.Interop;
using KvmTsc.Local;
using KvmTsc.Migration;
using KvmTsc.SelfTest;
using KvmTsc.States;
using KvmTsc.Tests.Semantics;
using KvmTsc.Tests.Simulation;

namespace KvmTsc.Tests.Kernel;

/// <summary>
/// A CPU that scales TSCs, with debugfs and the guest's own readings as witnesses, and what the simulated host makes of the same: for a host that has one
/// (tests/scaling.sh). The module's tolerance is 0 here, so that a single kHz is scaled.
/// </summary>
[Collection(KvmCollection.Name)]
[Trait("Category", "Scaling")]
public sealed class ScalingTests : IDisposable
{
    private const string Tolerance = "/sys/module/kvm/parameters/tsc_tolerance_ppm";
    private const int Seed = 20261129;

    private readonly string _tolerance = File.ReadAllText(Tolerance).Trim();
    private readonly KvmHost _host;
    private readonly uint _hostKHz;

    public ScalingTests()
    {
        File.WriteAllText(Tolerance, "0");
        _host = new KvmHost();
        Assert.True(KvmHostInformation.Read().HasTscScaling);
        _hostKHz = KvmHostInformation.Read().TscKHz;
    }

    public static TheoryData<double> Ratios => [1, 1.5, 0.7, 1.000_001, 1 / 3d, 25];

    public void Dispose()
    {
        _host.Dispose();
        File.WriteAllText(Tolerance, _tolerance);
    }

    [Theory]
    [MemberData(nameof(Ratios))]
    public void The_cmdlets_own_test_passes(double ratio)
    {
        var results = KvmTscOffsetTest.Run(2, KHzAt(ratio), [.. OffsetTests.Offsets.Select(row => row.Data)], CancellationToken.None).ToArray();
        Assert.Equal(12, results.Length);
        Assert.All(results, result => Assert.True(result.Passed, result.Reason));
    }

    /// <summary>Refused or taken, and with which ratio: as the engine foresees, as debugfs shows, and as the simulated host has it.</summary>
    [Fact]
    public void A_thousand_frequencies_have_the_ratio_that_was_foreseen()
    {
        var machine = _host.Create(1);
        var simulated = SimulatedLike(machine);
        var random = new Random(Seed);
        var taken = 0;
        for (var i = 0; i < 1000; i++)
        {
            var kHz = (uint)Math.Exp(random.NextDouble() * Math.Log(uint.MaxValue));
            Assert.True(Raw.SetTscKHz(machine, 0, _hostKHz).Succeeded);
            Assert.True(Raw.SetTscKHz(simulated, 0, _hostKHz).Succeeded);
            var outcome = Raw.SetTscKHz(machine, 0, kHz);
            var ratio = ulong.Parse(KvmHost.Debugfs(machine, 0, "tsc-scaling-ratio"), CultureInfo.InvariantCulture);
            var there = Raw.SetTscKHz(simulated, 0, kHz);
            Assert.True(machine.HostTsc.Supports(kHz) == outcome.Succeeded, $"{kHz} kHz: {outcome.ErrorNumber}");
            Assert.True(outcome.ErrorNumber == there.ErrorNumber, $"{kHz} kHz: {outcome.ErrorNumber}, simulated {there.ErrorNumber}");
            Assert.True(ratio == simulated.VM.Vcpus[0].Ratio, $"{kHz} kHz: {ratio}, simulated {simulated.VM.Vcpus[0].Ratio}");
            Assert.Equal(Raw.GetTscKHz(machine, 0), Raw.GetTscKHz(simulated, 0));
            if (!outcome.Succeeded)
                continue;
            taken++;
            Assert.True(ratio == machine.HostTsc.RatioFor(kHz).Multiplier, $"{kHz} kHz: {ratio}, foreseen {machine.HostTsc.RatioFor(kHz).Multiplier}");
        }

        Assert.InRange(taken, 500, 1000);
    }

    /// <summary>To the tick, as both guests live on one TSC.</summary>
    [Theory]
    [MemberData(nameof(Ratios))]
    public void A_VM_of_another_frequency_gets_the_states_own(double ratio)
    {
        var source = _host.CreateSource(2, KHzAt(ratio));
        var destination = _host.Create(2, "destination", KHzAt(1.1));
        var result = TscMigration.Run(source, destination, new TscRestoreOptions(), CancellationToken.None);
        Assert.Equal((0, ResidualMeasure.HostTsc), (result.ResidualTicks, result.MeasuredBy));
        foreach (var id in source.VcpuIds)
        {
            Assert.Equal(KvmHost.OffsetInDebugfs(source, id), KvmHost.OffsetInDebugfs(destination, id));
            Assert.Equal(KvmHost.Debugfs(source, id, "tsc-scaling-ratio"), KvmHost.Debugfs(destination, id, "tsc-scaling-ratio"));
            var before = source.ReadGuestTsc(id).GuestTsc;
            var between = destination.ReadGuestTsc(id).GuestTsc;
            Assert.InRange(between, before, source.ReadGuestTsc(id).GuestTsc);
        }
    }

    [Theory]
    [MemberData(nameof(Ratios))]
    public void The_documented_method_leaves_what_it_says(double ratio)
    {
        var source = _host.CreateSource(2, KHzAt(ratio));
        var destination = _host.Create(2, "destination");
        var result = TscMigration.Run(source, destination, new TscRestoreOptions(TscMethod.Documented), CancellationToken.None);
        Assert.InRange(Math.Abs(result.ResidualNanoseconds), 0, result.ErrorBoundNanoseconds);
        Assert.All(result.Vcpus, vcpu => Assert.Equal(
            KvmHost.OffsetInDebugfs(destination, vcpu.VcpuId) - KvmHost.OffsetInDebugfs(source, vcpu.VcpuId), vcpu.ResidualTicks));
    }

    /// <summary>
    /// A guest computes kvmclock for its own kHz, KVM_GET_CLOCK does for the host's: what the guest's own page gives is off by what the engine says of the
    /// ratio, and a restore that goes by KVM_GET_CLOCK takes it back by no more than its bound.
    /// </summary>
    [Theory]
    [InlineData(0.7)]
    [InlineData(1.3)]
    public void Kvmclock_as_the_guest_computes_it_is_off_as_foreseen(double ratio)
    {
        const int SecondsAsleep = 900;
        const int UncertaintyNanoseconds = 100_000; // less than a frequency that is known to a kHz leaves
        var machine = _host.Create(1, "guest", KHzAt(ratio));
        Raw.SetMsr(machine, 0, KvmMsr.KvmSystemTimeNew, Pvclock.Address | 1);
        machine.ReadGuestTsc(0);
        Assert.InRange(GuestsErrorNow(machine, ratio), -1000, 1000);

        Thread.Sleep(TimeSpan.FromSeconds(SecondsAsleep));
        machine.ReadGuestTsc(0);
        var error = GuestsErrorNow(machine, ratio);
        var ppm = machine.HostTsc.RatioFor(KHzAt(ratio)).KvmclockPpm(_hostKHz);
        Assert.InRange(error - (ppm * 1e3 * SecondsAsleep), -UncertaintyNanoseconds, UncertaintyNanoseconds);
        Assert.True(Math.Abs(error) > 10 * UncertaintyNanoseconds, $"{KHzAt(ratio)} kHz has nothing to show: {error} ns");

        var before = GuestsClockNow(machine, ratio);
        var result = new TscRestore(machine, KvmTscState.Save(machine, force: false, CancellationToken.None), new TscRestoreOptions(Force: true)).Run(CancellationToken.None);
        machine.ReadGuestTsc(0);
        Assert.InRange(Math.Abs(GuestsErrorNow(machine, ratio)), 0, 1000);
        var after = GuestsClockNow(machine, ratio);
        var passed = PvclockScale.ToNanoseconds(_hostKHz).Apply(after.HostTsc - before.HostTsc);
        Assert.InRange(Math.Abs(TscArithmetic.Distance(before.Clock + passed, after.Clock)), Math.Abs(error) - UncertaintyNanoseconds, result.ClockErrorBoundNanoseconds);
        TestContext.Current.SendDiagnosticMessage($"kvmclock at {KHzAt(ratio)} of {_hostKHz} kHz: {error} ns off after {SecondsAsleep} s, bound {result.ClockErrorBoundNanoseconds:0} ns");
    }

    /// <summary>
    /// Leaves states, with what the guest read, in the directory that KVMTSC_STATES names, and restores those that another host left there. Both hosts' CLOCK_REALTIME is
    /// right by definition.
    /// </summary>
    [Fact]
    public void States_go_from_host_to_host()
    {
        var directory = Environment.GetEnvironmentVariable("KVMTSC_STATES");
        Assert.False(string.IsNullOrEmpty(directory), "KVMTSC_STATES names no directory");
        foreach (var file in Directory.GetFiles(directory, "*.json"))
            RestoreFrom(file);
        foreach (var row in Ratios)
        {
            var source = _host.CreateSource(2, KHzAt(row.Data));
            var name = Path.Combine(directory, $"{_hostKHz}-{KHzAt(row.Data)}");
            File.WriteAllBytes($"{name}.json", StateDocument.Write(KvmTscState.Save(source, force: false, CancellationToken.None)));
            File.WriteAllText($"{name}.reading", JsonSerializer.Serialize(Reading.Of(source)));
        }
    }

    private void RestoreFrom(string file)
    {
        var state = StateDocument.Read(File.ReadAllBytes(file), file);
        var then = JsonSerializer.Deserialize<Reading>(File.ReadAllText(Path.ChangeExtension(file, ".reading")))!;
        var machine = _host.Create(2, "destination");
        var result = new TscRestore(machine, state, new TscRestoreOptions()).Run(CancellationToken.None);
        var now = Reading.Of(machine);
        var kHz = state.Vcpus[0].TscKHz;
        var elapsed = (long)(now.Realtime - then.Realtime);
        var error = (TscArithmetic.Distance(then.GuestTsc, now.GuestTsc) / (kHz / 1e6)) - elapsed;
        var uncertainty = then.UncertaintyNanoseconds + now.UncertaintyNanoseconds;
        var text = string.Create(CultureInfo.InvariantCulture, $"{Path.GetFileName(file)} on {_hostKHz} kHz: {error:0} ns off after {elapsed / 1e9:0.0} s, known to {uncertainty:0} ns, bound {result.ErrorBoundNanoseconds:0} ns, residual {result.ResidualNanoseconds:0.0} ns");
        Assert.True(Math.Abs(error) <= result.ErrorBoundNanoseconds + uncertainty, text);
        Assert.All(machine.VcpuIds, id => Assert.Equal(
            machine.HostTsc.RatioFor(kHz).Multiplier, ulong.Parse(KvmHost.Debugfs(machine, id, "tsc-scaling-ratio"), CultureInfo.InvariantCulture)));
        TestContext.Current.SendDiagnosticMessage(text);
    }

    /// <summary>The frequency in whole kHz, which is another than the host's unless that is asked for.</summary>
    private uint KHzAt(double ratio)
    {
        var kHz = (uint)Math.Round(_hostKHz * ratio);
        return ratio != 1 && kHz == _hostKHz ? kHz + 1 : kHz;
    }

    private static SimulatedMachine SimulatedLike(LocalMachine machine)
    {
        var (kHz, _, tolerance) = machine.HostTsc;
        return new SimulatedMachine(
            new SimulatedHost(new HostSpec(kHz * 1000UL, kHz, 1, TscScaling.Intel) { TolerancePpm = tolerance }, new SimulatedTime()), machine.VcpuIds);
    }

    /// <summary>By how much kvmclock as the guest computes it is ahead of KVM_GET_CLOCK, at one host TSC.</summary>
    private long GuestsErrorNow(LocalMachine machine, double ratio)
    {
        var clock = Raw.GetClock(machine);
        return TscArithmetic.Distance(clock.Clock, GuestsClockAt(machine, ratio, clock.HostTsc));
    }

    /// <summary>kvmclock as the guest computes it, and the host's TSC.</summary>
    private (ulong Clock, ulong HostTsc) GuestsClockNow(LocalMachine machine, double ratio)
    {
        var tsc = HostTsc.Read();
        return (GuestsClockAt(machine, ratio, tsc), tsc);
    }

    private ulong GuestsClockAt(LocalMachine machine, double ratio, ulong hostTsc)
    {
        var guestTsc = TscArithmetic.GuestTsc(hostTsc, machine.HostTsc.RatioFor(KHzAt(ratio)), Raw.GetOffset(machine, 0));
        return machine.ReadGuest<Pvclock>(Pvclock.Address).At(guestTsc);
    }

    /// <summary>What a guest read of its TSC, and when that was by CLOCK_REALTIME.</summary>
    private sealed record Reading(ulong Realtime, ulong GuestTsc, double UncertaintyNanoseconds)
    {
        public static Reading Of(LocalMachine machine)
        {
            Reading? best = null;
            for (var i = 0; i < 20; i++)
            {
                var before = HostClock.Now.Realtime;
                var tsc = machine.ReadGuestTsc(0).GuestTsc;
                var after = HostClock.Now.Realtime;
                var half = (after - before) / 2;
                if (best is null || half < best.UncertaintyNanoseconds)
                    best = new Reading(before + half, tsc, half + 1);
            }

            return best!;
        }
    }
}
