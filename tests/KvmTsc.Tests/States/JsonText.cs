using System.Security.Cryptography;
using System.Text;
using System.Text.Json.Nodes;

namespace KvmTsc.Tests.States;

/// <summary>Documents as another program would make them, with a canonical form of its own.</summary>
internal static class JsonText
{
    public static JsonObject Parse(byte[] document) => JsonNode.Parse(document)!.AsObject();

    public static byte[] Bytes(JsonNode document) => Encoding.UTF8.GetBytes(document.ToJsonString());

    /// <summary>Gives a document the digest of what it holds now.</summary>
    public static JsonObject Sign(JsonObject document)
    {
        if (document.ContainsKey("sha256"))
            document["sha256"] = Digest(document["state"]);
        return document;
    }

    public static string Digest(JsonNode? value) => Convert.ToHexString(SHA256.HashData(Encoding.UTF8.GetBytes(Canonical(value)))).ToLowerInvariant();

    private static string Canonical(JsonNode? value) => value switch
    {
        null => "null",
        JsonObject members => $"{{{string.Join(',', members.OrderBy(member => member.Key, StringComparer.Ordinal).Select(member => $"{Quoted(member.Key)}:{Canonical(member.Value)}"))}}}",
        JsonArray items => $"[{string.Join(',', items.Select(Canonical))}]",
        JsonValue text when text.TryGetValue<string>(out var characters) => Quoted(characters),
        _ => value.ToJsonString(),
    };

    private static string Quoted(string text)
    {
        var escaped = text.Replace("\\", "\\\\", StringComparison.Ordinal).Replace("\"", "\\\"", StringComparison.Ordinal);
        foreach (var (character, escape) in new[] { ('\b', "\\b"), ('\t', "\\t"), ('\n', "\\n"), ('\f', "\\f"), ('\r', "\\r") })
            escaped = escaped.Replace(character.ToString(), escape, StringComparison.Ordinal);
        return $"\"{string.Concat(escaped.Select(character => character < ' ' ? $"\\u{(int)character:x4}" : character.ToString()))}\"";
    }
}
