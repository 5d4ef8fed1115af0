using FsCheck.Fluent;
using KvmTsc.Hosts;
using KvmTsc.Migration;
using KvmTsc.Tests.Simulation;

namespace KvmTsc.Tests.Migration;

/// <summary>Migrations on one boot of one host, where the TSC goes on and the right answer is known to the tick.</summary>
public sealed class MigrationOnOneHostTests
{
    [Fact]
    public void The_offsets_are_the_sources_to_the_tick() => Properties.Hold(OneHost, scenario =>
    {
        var migration = scenario.Start();
        var result = migration.Restore(TscMethod.Best);
        Assert.Equal(migration.Source.Picture(), migration.Destination.Picture());
        Assert.Equal(ResidualMeasure.HostTsc, result.MeasuredBy);
        Assert.Equal(0, result.ResidualTicks);
        Assert.Equal(0, result.ResidualNanoseconds);
        Assert.InRange(result.ClockResidualNanoseconds, -result.ErrorBoundNanoseconds, result.ErrorBoundNanoseconds);
    });

    /// <summary>What KVM_SET_CLOCK leaves wrong is read, and taken away: as documented it stays.</summary>
    [Fact]
    public void Kvmclock_is_set_in_a_closed_loop() => Properties.Hold(OneHost, scenario =>
    {
        var (best, documented) = (scenario.Start().Restore(TscMethod.Best), scenario.Start().Restore(TscMethod.Documented));
        Assert.InRange(Math.Abs(best.ClockResidualNanoseconds), 0, 10); // some ticks of a slow TSC
        Assert.True(Math.Abs(documented.ClockResidualNanoseconds) >= Math.Abs(best.ClockResidualNanoseconds) - 10);
    });

    [Fact]
    public void As_documented_the_residual_lies_within_the_bound() => Properties.Hold(OneHost, scenario =>
    {
        var result = scenario.Start().Restore(TscMethod.Documented);
        Assert.Equal(ResidualMeasure.HostTsc, result.MeasuredBy);
        Assert.InRange(result.ResidualNanoseconds, -result.ErrorBoundNanoseconds - 2, result.ErrorBoundNanoseconds + 2);
    });

    [Fact]
    public void A_host_that_booted_anew_is_another_host()
    {
        var before = HostSpec.Ordinary with { TscStart = 1UL << 40 };
        var after = before with { BootId = "another" };
        var migration = new MigrationScenario(before, after, before.TscKHz, 2, 1).Start();
        var result = migration.Restore(TscMethod.Best);
        Assert.Equal(ResidualMeasure.Realtime, result.MeasuredBy);
    }

    /// <summary>After a suspend, for one, a TSC may begin anew within a boot.</summary>
    [Fact]
    public void A_TSC_that_is_behind_the_states_did_not_go_on()
    {
        var migration = new MigrationScenario(HostSpec.Ordinary, HostSpec.Ordinary, HostSpec.Ordinary.TscKHz, 2, 1).Start();
        var later = migration.State.With(hostTsc: migration.State.HostTsc + (1UL << 50));
        var result = new TscRestore(migration.Destination, later, new TscRestoreOptions()).Run(CancellationToken.None);
        Assert.Equal(ResidualMeasure.Realtime, result.MeasuredBy);
        Assert.InRange(Math.Abs(result.ResidualNanoseconds), 0, result.ErrorBoundNanoseconds);
    }

    [Fact]
    public void A_TSC_of_another_frequency_did_not_go_on()
    {
        var migration = new MigrationScenario(HostSpec.Ordinary, HostSpec.Ordinary, HostSpec.Ordinary.TscKHz, 2, 1).Start();
        var host = migration.State.Host;
        var other = migration.State.With(host: new KvmHostIdentity(host.MachineName, null, host.BootId, host.KernelRelease, host.TscKHz + 1, 0, 0, 0, 0));
        var result = new TscRestore(migration.Destination, other, new TscRestoreOptions()).Run(CancellationToken.None);
        Assert.Equal(ResidualMeasure.Realtime, result.MeasuredBy);
    }

    /// <summary>Where the ratio is another, as after another tolerance, the source's offset is no answer.</summary>
    [Fact]
    public void Another_ratio_takes_another_offset_even_on_one_TSC()
    {
        var spec = HostSpec.Ordinary with { Scaling = TscScaling.Intel };
        var migration = new MigrationScenario(spec, spec, 1_500_000, 2, 1).Start();
        var vcpus = migration.State.Vcpus.Select(vcpu => new KvmVcpuTscState(vcpu.VcpuId, vcpu.OffsetTicks, vcpu.TscKHz, vcpu.ScalingRatio + 1, 48));
        var result = new TscRestore(migration.Destination, migration.State.With(vcpus: [.. vcpus]), new TscRestoreOptions()).Run(CancellationToken.None);
        Assert.NotEqual(migration.State.Vcpus[0].OffsetTicks, result.Vcpus[0].NewOffsetTicks);
        Assert.InRange(Math.Abs(result.ResidualNanoseconds), 0, result.ErrorBoundNanoseconds);
    }

    private static FsCheck.Gen<MigrationScenario> OneHost { get; } =
        from scenario in MigrationScenario.Any
        let start = scenario.Source.TscStart >> 1
        let kHz = scenario.Source.Scaling == TscScaling.None ? scenario.Source.TscKHz : scenario.GuestKHz
        select scenario with { Source = scenario.Source with { TscStart = start }, Destination = scenario.Source with { TscStart = start } };
}
