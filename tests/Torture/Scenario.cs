using System.Globalization;

namespace KvmTsc.Torture;

/// <summary>A way to run the target, and how much of a run it gets.</summary>
/// <param name="Name">What it is called.</param>
/// <param name="Share">Its part of all attaches, in percent.</param>
/// <param name="HasRun">Whether its vCPUs have run, so that the clock has its triple.</param>
/// <param name="KnowsThreads">Whether those who attach may see in debugfs which threads run vCPUs. All are stopped else.</param>
/// <param name="Arguments">The target's options.</param>
internal sealed record Scenario(string Name, int Share, bool HasRun, bool KnowsThreads, params string[] Arguments)
{
    /// <summary>The two offsets that are written, in turn. The target starts with the first.</summary>
    public const long FirstOffset = 0;

    public const long SecondOffset = -7_000_000_000;

    private const string StandIn = "--stand-in";
    private const string Seccomp = "--seccomp";

    public static IReadOnlyList<Scenario> WithKvm { get; } =
    [
        new("running", 30, true, true),
        new("QEMU's sandbox", 10, true, true, "--sandbox"),
        new("catches SIGURG", 15, true, true, "--catch-sigurg"),
        new("seccomp", 10, true, true, Seccomp),
        new("paused", 10, true, true, "--paused"),
        new("never run", 10, false, true, "--no-run"),
        new("all threads", 15, true, false),
    ];

    public static IReadOnlyList<Scenario> WithoutKvm { get; } =
    [
        new("some threads", 30, true, true, StandIn),
        new("all threads", 40, true, false, StandIn),
        new("catches SIGURG", 15, true, false, StandIn, "--catch-sigurg"),
        new("seccomp", 15, true, true, StandIn, Seccomp),
    ];

    public bool IsStandIn => Arguments.Contains(StandIn);

    /// <summary>Whether the target may read its offsets itself.</summary>
    public bool CanReadOffsets => IsStandIn || !IsFiltered;

    /// <summary>Whether a filter of its own ends it where the tool dies in the middle of a batch: docs/attach.md.</summary>
    public bool IsFiltered => Arguments.Contains(Seccomp);

    /// <summary>Those that the command line asks for.</summary>
    /// <param name="options">The command line.</param>
    /// <param name="further">What there is to choose from, with KVM, besides those that all runs have.</param>
    public static IReadOnlyList<Scenario> Chosen(Options options, params Scenario[] further) =>
        [.. (options.StandIn ? WithoutKvm : WithKvm.Concat(further)).Where(scenario => options.Only is null || scenario.Name == options.Only)];

    /// <summary>Divides a count among scenarios; the first gets what is left over.</summary>
    public static IEnumerable<(Scenario Scenario, int Count)> Divide(int count, IReadOnlyList<Scenario> scenarios)
    {
        var shares = scenarios.Sum(scenario => scenario.Share);
        int[] parts = [.. scenarios.Select(scenario => count * scenario.Share / shares)];
        parts[0] += count - parts.Sum();
        return scenarios.Zip(parts);
    }

    public Target Start() => Target.Start(
        Name, Options.Program("target"),
        ["--vcpus", "2", "--spinners", "1", "--expect-offsets", string.Create(CultureInfo.InvariantCulture, $"{FirstOffset},{SecondOffset}"), .. Arguments]);

    /// <summary>Where to work in a target of this kind.</summary>
    public Place PlaceIn(Target target) =>
        new(target.ProcessId, HasRun, KnowsThreads, target.Terminals, IsStandIn && KnowsThreads ? target.NameSomeThreads() : "");

    /// <summary>The offsets as they are, without the engine's help.</summary>
    public IReadOnlyList<long> Witness(Target target) => IsStandIn ? target.Offsets() : Debugfs.Offsets(target);
}
