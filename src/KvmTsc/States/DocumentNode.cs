using System.Globalization;
using System.Numerics;
using System.Text.Json;

namespace KvmTsc.States;

/// <summary>
/// A value in a document, and its place there. Reading is strict: a value can be written in one way only. Numbers of 64 bits, which many
/// JSON tools round, are decimal numbers in strings.
/// </summary>
/// <param name="Value">The value.</param>
/// <param name="Source">What the document is called in errors.</param>
/// <param name="Place">Where the value stands.</param>
internal sealed record DocumentNode(JsonElement Value, string Source, string Place)
{
    private const int MaximumShown = 60;

    /// <summary>A member of an object.</summary>
    public DocumentNode this[string name] => Find(name) ?? throw Fault($"it has no {name}");

    /// <summary>A member of an object that need not be there.</summary>
    public DocumentNode? Find(string name) => Object().Value.TryGetProperty(name, out var value) ? this with { Value = value, Place = $"{Place}.{name}" } : null;

    /// <summary>Refuses what is no object.</summary>
    public DocumentNode Object() => Require(JsonValueKind.Object, "an object");

    /// <summary>Refuses an object that has other members than these.</summary>
    public DocumentNode ObjectOf(params string[] names)
    {
        var unknown = Object().Value.EnumerateObject().Select(member => member.Name).FirstOrDefault(name => !names.Contains(name));
        return unknown is null ? this : throw Fault($"it has \"{Shown(JsonEncodedText.Encode(unknown).Value)}\", which is not known here");
    }

    /// <summary>The items of a list.</summary>
    public IEnumerable<DocumentNode> Items()
    {
        var list = Require(JsonValueKind.Array, "a list");
        return list.Value.EnumerateArray().Select((item, index) => list with { Value = item, Place = $"{list.Place}[{index}]" });
    }

    public string Text()
    {
        try
        {
            return Require(JsonValueKind.String, "a text").Value.GetString()!;
        }
        catch (InvalidOperationException exception)
        {
            throw Fault("it has a character that is no Unicode", exception);
        }
    }

    public string? OptionalText() => Value.ValueKind == JsonValueKind.Null ? null : Text();

    public bool Boolean() => Value.ValueKind is JsonValueKind.True or JsonValueKind.False ? Value.GetBoolean() : throw NotA("true or false");

    public bool? OptionalBoolean() => Value.ValueKind == JsonValueKind.Null ? null : Boolean();

    public int Int32() => Number<int>("an integer of 32 bits");

    public uint UInt32() => Number<uint>("an integer from 0 to 4294967295");

    public long Int64() => Decimal<long>("a decimal integer of 64 bits in a string");

    public ulong UInt64() => Decimal<ulong>("a decimal integer from 0 to 18446744073709551615 in a string");

    public ulong? OptionalUInt64() => Value.ValueKind == JsonValueKind.Null ? null : UInt64();

    public double Double() => Decimal<double>("a decimal number in a string");

    /// <summary>The refusal of this document for what stands here.</summary>
    public KvmException Fault(string what, Exception? exception = null) => StateDocument.Invalid(Source, $"at {Place}, {what}", exception);

    private T Number<T>(string kind) where T : INumber<T> =>
        Value.ValueKind == JsonValueKind.Number && Parsed<T>(Value.GetRawText(), out var number) ? number : throw NotA(kind);

    private T Decimal<T>(string kind) where T : INumber<T> =>
        Value.ValueKind == JsonValueKind.String && Parsed<T>(Text(), out var number) ? number : throw NotA(kind);

    /// <summary>Takes a number only as it would be written.</summary>
    private static bool Parsed<T>(string text, out T number) where T : INumber<T> =>
        T.TryParse(text, NumberStyles.Float, CultureInfo.InvariantCulture, out number!) && number.ToString(null, CultureInfo.InvariantCulture) == text;

    private DocumentNode Require(JsonValueKind kind, string name) => Value.ValueKind == kind ? this : throw NotA(name);

    private KvmException NotA(string kind) => Fault(Value.ValueKind switch
    {
        JsonValueKind.Object => $"an object is not {kind}",
        JsonValueKind.Array => $"a list is not {kind}",
        _ => $"{Shown(Value.GetRawText())} is not {kind}",
    });

    private static string Shown(string raw) => raw.Length <= MaximumShown ? raw : $"{raw[..MaximumShown]}...";
}
