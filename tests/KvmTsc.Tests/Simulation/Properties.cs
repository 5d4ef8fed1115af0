using FsCheck;
using FsCheck.Fluent;

namespace KvmTsc.Tests.Simulation;

/// <summary>Runs properties; a failure throws with the counterexample and the seed to have it again.</summary>
internal static class Properties
{
    public static void Hold<T>(Gen<T> values, Action<T> property, int times = 300) =>
        Check.One(Config.QuickThrowOnFailure.WithMaxTest(times), Prop.ForAll(values.ToArbitrary(), property));
}
