using System.Buffers;
using System.Management.Automation;
using System.Management.Automation.Language;

namespace KvmTsc.PowerShell.Completion;

/// <summary>The word under the cursor: perhaps quoted, perhaps with wildcards.</summary>
internal static class Word
{
    private static readonly SearchValues<char> s_special = SearchValues.Create(" '\"`$(){};,|&<>@#[]*?");

    /// <summary>Whether a value begins as the word does.</summary>
    public static bool Matches(string? word, string value) =>
        WildcardPattern.Get(Bare(word) + "*", WildcardOptions.IgnoreCase).IsMatch(value);

    /// <summary>A value as it has to stand on the command line, in the quotes that the word has or in those that it needs.</summary>
    public static string Quote(string value, string? word) => word switch
    {
        ['"', ..] => $"\"{value.Replace("`", "``").Replace("$", "`$").Replace("\"", "`\"")}\"",
        ['\'', ..] => Single(value),
        _ => value.Length == 0 || value.AsSpan().ContainsAny(s_special) || value[0] is '-' ? Single(value) : value,
    };

    private static string Single(string value) => $"'{CodeGeneration.EscapeSingleQuotedStringContent(value)}'";

    private static string Bare(string? word) => word is ['\'' or '"', .. var rest] ? rest.TrimEnd(word[0]) : word ?? "";
}
