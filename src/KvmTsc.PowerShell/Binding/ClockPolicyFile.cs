using System.Collections;
using System.Management.Automation;
using System.Management.Automation.Language;
using KvmTsc.Migration;
using KvmTsc.Watching;

namespace KvmTsc.PowerShell.Binding;

/// <summary>What is done about which VMs, as a PowerShell data file says it: about_KvmTsc_Watch has the format.</summary>
internal sealed class ClockPolicyFile
{
    private const string VMs = nameof(VMs);
    private const string Name = nameof(Name);
    private const string Action = nameof(Action);
    private const string Ignore = nameof(Ignore);
    private const string Report = nameof(Report);
    private const string Correct = nameof(Correct);

    private readonly IReadOnlyList<(WildcardPattern Name, ClockPolicy? Policy)> _rules;

    private ClockPolicyFile(IReadOnlyList<(WildcardPattern Name, ClockPolicy? Policy)> rules) => _rules = rules;

    /// <summary>Whether anything is done about any VM.</summary>
    public bool Corrects => _rules.Any(rule => rule.Policy?.Corrects == true);

    /// <summary>Reads one.</summary>
    /// <exception cref="KvmException">It cannot be read, or is none.</exception>
    public static ClockPolicyFile Read(string path)
    {
        if (!File.Exists(path))
            throw new KvmException(KvmErrorId.FileNotFound, $"There is no file {path}.", "See what is there with Get-ChildItem.");
        var content = Parse(path);
        RequireKeys(path, content, "the file", VMs);
        var rules = LanguagePrimitives.GetEnumerable(content[VMs])?.Cast<object?>().ToArray() ?? [content[VMs]];
        return new ClockPolicyFile([.. rules.Select((rule, index) => RuleOf(path, rule, $"entry {index + 1} of VMs"))]);
    }

    /// <summary>What is done about a VM: the first entry that fits its name says so; where none does, what else is to be done.</summary>
    public ClockPolicy? PolicyOf(string vm, ClockPolicy? otherwise)
    {
        foreach (var (name, policy) in _rules)
        {
            if (name.IsMatch(vm))
                return policy;
        }

        return otherwise;
    }

    private static Hashtable Parse(string path)
    {
        try
        {
            var script = Parser.ParseFile(path, out _, out var errors);
            if (errors.Length > 0)
                throw Invalid(path, $"line {errors[0].Extent.StartLineNumber}: {errors[0].Message}");
            return script.Find(ast => ast is HashtableAst, searchNestedScriptBlocks: false)?.SafeGetValue() as Hashtable
                ?? throw Invalid(path, "it has no hashtable, @{ ... }");
        }
        catch (Exception exception) when (exception is InvalidOperationException or IOException or UnauthorizedAccessException)
        {
            throw Invalid(path, exception.Message, exception);
        }
    }

    private static (WildcardPattern Name, ClockPolicy? Policy) RuleOf(string path, object? value, string where)
    {
        if (value is not Hashtable rule)
            throw Invalid(path, $"{where} is no hashtable, @{{ ... }}");
        RequireKeys(path, rule, where, Name, Action, nameof(ClockPolicy.Downtime), nameof(ClockPolicy.MaximumDowntime));
        if (rule[Name] is not string { Length: > 0 } name)
            throw Invalid(path, $"{where} has no Name");
        var corrects = OneOf(path, $"Action of {where}", rule[Action], Correct, Correct, Report, Ignore);
        var downtime = OneOf(path, $"Downtime of {where}", rule[nameof(ClockPolicy.Downtime)], nameof(TscDowntime.Count), nameof(TscDowntime.Count), nameof(TscDowntime.Exclude));
        return (
            WildcardPattern.Get(name, WildcardOptions.IgnoreCase),
            corrects == Ignore ? null : new ClockPolicy(corrects == Correct, Enum.Parse<TscDowntime>(downtime), TimeOf(path, where, rule[nameof(ClockPolicy.MaximumDowntime)])));
    }

    private static string OneOf(string path, string what, object? value, string otherwise, params string[] known)
    {
        if (value is null)
            return otherwise;
        return Array.Find(known, name => string.Equals(name, value as string, StringComparison.OrdinalIgnoreCase))
            ?? throw Invalid(path, $"{what} is {value}, and may be {string.Join(", ", known)}");
    }

    private static TimeSpan? TimeOf(string path, string where, object? value)
    {
        try
        {
            return LanguagePrimitives.ConvertTo<TimeSpan?>(new SecondsAttribute().Transform(null!, value));
        }
        catch (Exception exception) when (exception is PSInvalidCastException or ArgumentTransformationMetadataException)
        {
            throw Invalid(path, $"MaximumDowntime of {where} is {value}: {exception.Message}", exception);
        }
    }

    private static void RequireKeys(string path, Hashtable table, string where, params string[] known)
    {
        foreach (var key in table.Keys.Cast<object>().Where(key => !known.Contains($"{key}", StringComparer.OrdinalIgnoreCase)))
            throw Invalid(path, $"{where} has {key}, and may have {string.Join(", ", known)}");
    }

    private static KvmException Invalid(string path, string why, Exception? exception = null) => new(
        KvmErrorId.PolicyInvalid, $"{path} is no policy: {why.TrimEnd('.')}.", "Get-Help about_KvmTsc_Watch has the format, and an example.", exception);
}
