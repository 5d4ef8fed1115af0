using FsCheck.Fluent;
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

    private static FsCheck.Gen<MigrationScenario> OneHost { get; } =
        from scenario in MigrationScenario.Any
        let start = scenario.Source.TscStart >> 1
        let kHz = scenario.Source.Scaling == TscScaling.None ? scenario.Source.TscKHz : scenario.GuestKHz
        select scenario with { Source = scenario.Source with { TscStart = start }, Destination = scenario.Source with { TscStart = start } };
}
