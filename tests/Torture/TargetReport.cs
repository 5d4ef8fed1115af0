using System.Text.Json;
using System.Text.Json.Serialization;

namespace KvmTsc.Torture;

/// <summary>What a target says of one of its checks.</summary>
internal sealed record TargetCheck(string Name, long Iterations, long Deviations, long Late, bool Idle, string First);

/// <summary>What a target says of itself.</summary>
internal sealed record TargetReport(long Deviations, IReadOnlyList<TargetCheck> Checks)
{
    public long Iterations => Checks.Sum(check => check.Iterations);

    public long Late => Checks.Sum(check => check.Late);

    /// <exception cref="InvalidOperationException">It makes no sense: the target was harmed.</exception>
    public static TargetReport Parse(string line)
    {
        try
        {
            return JsonSerializer.Deserialize(line, TargetJson.Default.TargetReport) ?? throw new JsonException();
        }
        catch (JsonException exception)
        {
            throw new InvalidOperationException($"A target reported: {line}", exception);
        }
    }

    /// <summary>What deviates, and how at first.</summary>
    public string Deviating => string.Join("; ", Checks.Where(check => check.Deviations > 0).Select(check => $"{check.Deviations} in {check.Name}, at first {check.First}"));

    /// <summary>The checks that have work to do and made no progress since an earlier report.</summary>
    public IEnumerable<TargetCheck> StalledSince(TargetReport earlier) =>
        Checks.Zip(earlier.Checks).Where(pair => !pair.First.Idle && !pair.Second.Idle && pair.First.Iterations == pair.Second.Iterations).Select(pair => pair.First);
}

/// <summary>The TSC offsets as the target's own vCPU threads read them.</summary>
internal sealed record TargetOffsets(IReadOnlyList<long> Offsets);

/// <summary>KVM_GET_CLOCK, in nanoseconds.</summary>
internal sealed record TargetClock(long Clock, long Realtime, uint Flags)
{
    private const uint HasRealtime = 4; // KVM_CLOCK_REALTIME

    public long? Lag => (Flags & HasRealtime) != 0 ? Realtime - Clock : null;
}

/// <summary>What a target has of the system's resources: mappings, with a digest of their names and permissions, and descriptors.</summary>
internal sealed record TargetResources(int Mappings, int Executable, ulong Digest, int Descriptors)
{
    /// <summary>Whether all that came is a payload: a mapping of code and one of data.</summary>
    public bool IsPayloadMoreThan(TargetResources earlier) =>
        Mappings == earlier.Mappings + 2 && Executable == earlier.Executable + 1 && Descriptors == earlier.Descriptors;
}

[JsonSourceGenerationOptions(PropertyNameCaseInsensitive = true)]
[JsonSerializable(typeof(TargetReport))]
[JsonSerializable(typeof(TargetOffsets))]
[JsonSerializable(typeof(TargetClock))]
[JsonSerializable(typeof(TargetResources))]
internal sealed partial class TargetJson : JsonSerializerContext;
