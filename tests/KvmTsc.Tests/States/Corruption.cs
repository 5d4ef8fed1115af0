using System.Text;
using System.Text.Json.Nodes;

namespace KvmTsc.Tests.States;

/// <summary>Spoils documents: their bytes as accidents do, or their contents as one does who computes the digest anew.</summary>
internal sealed class Corruption(Random random)
{
    private static readonly string[] s_values =
    [
        "null", "true", "false", "0", "-0", "1", "-1", "1.0", "1e3", "16384", "65536", "100001", "4194305", "2147483647", "2147483648", "4294967295", "4294967296",
        "9007199254740993", "18446744073709551616", "\"\"", "\"0\"", "\"-0\"", "\"1\"", "\"-1\"", "\"01\"", "\"+1\"", "\" 1\"", "\"1 \"", "\"1.0\"", "\"0.1\"", "\"1e3\"", "\"1E+300\"",
        "\"9223372036854775807\"", "\"9223372036854775808\"", "\"-9223372036854775808\"", "\"-9223372036854775809\"", "\"18446744073709551615\"",
        "\"18446744073709551616\"", "\"NaN\"", "\"Infinity\"", "\"1_000\"", "\"\\u0661\"", "\"web01\"", "\"\\u001b[2J\"", "\"KvmTscState\"", "[]", "{}", "[1]", "[null]", "[[[[[[[[[]]]]]]]]]",
    ];

    /// <summary>Other bytes.</summary>
    public byte[] OfBytes(byte[] document)
    {
        var (at, length) = (random.Next(document.Length), random.Next(1, 20));
        var rest = document.AsSpan(Math.Min(at + length, document.Length));
        var piece = document.AsSpan(at, Math.Min(length, document.Length - at)).ToArray();
        return random.Next(7) switch
        {
            0 => Changed(document, at, (byte)(document[at] ^ (1 << random.Next(8)))),
            1 => Changed(document, at, (byte)random.Next(256)),
            2 => document[..at],
            3 => [.. document.AsSpan(0, at), .. rest],
            4 => [.. document.AsSpan(0, at), .. piece, .. piece, .. rest],
            5 => [.. document.AsSpan(0, at), .. Noise(length), .. document.AsSpan(at)],
            _ => WithDigitsSwapped(document),
        };
    }

    /// <summary>Other contents, with the digest that fits them.</summary>
    public byte[] OfContents(byte[] document)
    {
        var root = JsonText.Parse(document);
        for (var edits = random.Next(1, 3); edits > 0; edits--)
            Edit(root);
        JsonText.Sign(root);
        return random.Next(10) == 0 ? WithMemberTwice(JsonText.Bytes(root)) : JsonText.Bytes(root);
    }

    private void Edit(JsonObject root)
    {
        var places = Places(root).ToArray();
        var (parent, key, index) = places[random.Next(places.Length)];
        switch (random.Next(5))
        {
            case 0 when parent is JsonObject members:
                members.Remove(key!);
                break;
            case 0:
                ((JsonArray)parent).RemoveAt(index);
                break;
            case 1 when parent is JsonObject members:
                members[$"{key}{random.Next(3)}"] = Value();
                break;
            case 1:
                ((JsonArray)parent).Add(parent[index]?.DeepClone());
                break;
            case 2:
                var (otherParent, otherKey, otherIndex) = places[random.Next(places.Length)];
                Put(parent, key, index, Get(otherParent, otherKey, otherIndex)?.DeepClone());
                break;
            default:
                Put(parent, key, index, Value());
                break;
        }
    }

    private JsonNode? Value() => JsonNode.Parse(s_values[random.Next(s_values.Length)]);

    private static JsonNode? Get(JsonNode parent, string? key, int index) => key is null ? parent[index] : parent[key];

    private static void Put(JsonNode parent, string? key, int index, JsonNode? value)
    {
        if (key is null)
            parent[index] = value;
        else
            parent[key] = value;
    }

    private static IEnumerable<(JsonNode Parent, string? Key, int Index)> Places(JsonNode node) => node switch
    {
        JsonObject members => members.SelectMany(member => Here(node, member.Key, 0, member.Value)),
        JsonArray items => items.SelectMany((item, index) => Here(node, null, index, item)),
        _ => [],
    };

    private static IEnumerable<(JsonNode, string?, int)> Here(JsonNode parent, string? key, int index, JsonNode? value) =>
        value is null ? [(parent, key, index)] : [(parent, key, index), .. Places(value)];

    private static byte[] WithMemberTwice(byte[] document)
    {
        var text = Encoding.UTF8.GetString(document);
        var comma = text.IndexOf(",\"", StringComparison.Ordinal);
        return comma < 0 ? document : Encoding.UTF8.GetBytes($"{{{text[1..comma]},{text[1..]}");
    }

    private byte[] WithDigitsSwapped(byte[] document)
    {
        var digits = Enumerable.Range(0, document.Length).Where(at => char.IsAsciiDigit((char)document[at])).ToArray();
        var (one, other) = (digits[random.Next(digits.Length)], digits[random.Next(digits.Length)]);
        var copy = document.ToArray();
        (copy[one], copy[other]) = (copy[other], copy[one]);
        return copy;
    }

    private static byte[] Changed(byte[] document, int at, byte value)
    {
        var copy = document.ToArray();
        copy[at] = value;
        return copy;
    }

    private byte[] Noise(int length)
    {
        var noise = new byte[length];
        random.NextBytes(noise);
        return noise;
    }
}
