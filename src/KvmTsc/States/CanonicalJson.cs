using System.Security.Cryptography;
using System.Text;
using System.Text.Json;

namespace KvmTsc.States;

/// <summary>
/// JSON in the one form that RFC 8785 gives it: members sorted, no white space, nothing escaped that need not be. So a digest outlives every
/// tool that only writes the same values in another way. Of numbers only integers are used here, which need no rewriting.
/// </summary>
internal static class CanonicalJson
{
    /// <summary>The SHA-256 of a value in its canonical form, in hexadecimal.</summary>
    public static string Digest(JsonElement value)
    {
        var text = new StringBuilder();
        Append(text, value);
        return Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(text.ToString())));
    }

    private static void Append(StringBuilder text, JsonElement value)
    {
        switch (value.ValueKind)
        {
            case JsonValueKind.Object:
                text.Append('{');
                AppendSeparated(text, value.EnumerateObject().OrderBy(member => member.Name, StringComparer.Ordinal), AppendMember);
                text.Append('}');
                break;
            case JsonValueKind.Array:
                text.Append('[');
                AppendSeparated(text, value.EnumerateArray(), Append);
                text.Append(']');
                break;
            case JsonValueKind.String:
                AppendText(text, value.GetString()!);
                break;
            default:
                text.Append(value.GetRawText());
                break;
        }
    }

    private static void AppendSeparated<T>(StringBuilder text, IEnumerable<T> items, Action<StringBuilder, T> append)
    {
        var separator = "";
        foreach (var item in items)
        {
            text.Append(separator);
            append(text, item);
            separator = ",";
        }
    }

    private static void AppendMember(StringBuilder text, JsonProperty member)
    {
        AppendText(text, member.Name);
        text.Append(':');
        Append(text, member.Value);
    }

    private static void AppendText(StringBuilder text, string value)
    {
        text.Append('"');
        foreach (var character in value)
        {
            _ = character switch
            {
                '"' or '\\' => text.Append('\\').Append(character),
                '\b' => text.Append("\\b"),
                '\t' => text.Append("\\t"),
                '\n' => text.Append("\\n"),
                '\f' => text.Append("\\f"),
                '\r' => text.Append("\\r"),
                < ' ' => text.Append($"\\u{(int)character:x4}"),
                _ => text.Append(character),
            };
        }

        text.Append('"');
    }
}
