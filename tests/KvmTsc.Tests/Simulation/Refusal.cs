namespace KvmTsc.Tests.Simulation;

/// <summary>Has something refused, and sees that nothing was changed.</summary>
internal static class Refusal
{
    public static KvmException Of(SimulatedMachine machine, KvmErrorId errorId, Action action)
    {
        var (picture, clock, writes, matched) = (machine.Picture(), machine.VM.ClockBase, machine.Writes.Count(), machine.VM.VcpusMatch);
        var exception = Assert.Throws<KvmException>(action);
        AssertExplains(exception, errorId);
        Assert.Equal(picture, machine.Picture());
        Assert.Equal(clock, machine.VM.ClockBase);
        Assert.Equal(writes, machine.Writes.Count());
        Assert.Equal(matched, machine.VM.VcpusMatch);
        Assert.Equal(0, machine.OpenStops);
        return exception;
    }

    public static void AssertExplains(KvmException exception, KvmErrorId errorId)
    {
        Assert.Equal(errorId, exception.ErrorId);
        Assert.False(string.IsNullOrWhiteSpace(exception.Message));
        Assert.EndsWith(".", exception.Message, StringComparison.Ordinal);
        Assert.False(string.IsNullOrWhiteSpace(exception.RecommendedAction));
        Assert.NotEqual(exception.Message, exception.RecommendedAction);
    }
}

internal static class RefusalExtensions
{
    public static void Rethrow(this KvmException exception) => throw exception;
}
