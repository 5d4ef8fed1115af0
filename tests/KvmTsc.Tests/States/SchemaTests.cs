using System.Text.Json;
using System.Text.Json.Nodes;
using Json.Schema;
using KvmTsc.States;

namespace KvmTsc.Tests.States;

/// <summary>The published schema and the engine, side by side.</summary>
public sealed class SchemaTests
{
    private const int Seed = 4711;

    private static readonly JsonSchema s_schema = JsonSchema.FromText(File.ReadAllText(SchemaPath));

    private readonly Random _random = new(Seed);

    [Fact]
    public void What_is_written_fits_the_schema()
    {
        var states = new RandomStates(_random);
        for (var i = 0; i < 300; i++)
            Assert.True(Fits(StateDocument.Write(states.Next())));
    }

    [Fact]
    public void What_does_not_fit_the_schema_is_refused()
    {
        var (states, corruption) = (new RandomStates(_random), new Corruption(_random));
        var unfit = 0;
        for (var i = 0; i < 1_000; i++)
        {
            var document = corruption.OfContents(StateDocument.Write(states.Next()));
            if (Fits(document))
                continue;
            unfit++;
            Assert.Throws<KvmException>(() => StateDocument.Read(document, "web01.json"));
        }

        Assert.True(unfit > 300, $"{unfit} did not fit");
    }

    [Fact]
    public void Each_member_of_a_document_is_described_and_required_but_one()
    {
        const string Optional = "clockErrorNanoseconds";
        var states = new RandomStates(_random);
        var document = Enumerable.Range(0, 100).Select(_ => JsonText.Parse(StateDocument.Write(states.Next()))).First(document => document["state"]![Optional] is not null);
        var schema = JsonNode.Parse(File.ReadAllText(SchemaPath))!.AsObject();
        Compare(document, schema);
        Compare(document["state"]!, schema["properties"]!["state"]!, Optional);
        Compare(document["state"]!["host"]!, schema["$defs"]!["host"]!);
        Compare(document["state"]!["vcpus"]![0]!, schema["$defs"]!["vcpu"]!);
    }

    /// <summary>Whether the schema takes a document. A member that stands twice is JSON's business, not the schema's: the last one counts.</summary>
    internal static bool Fits(byte[] document)
    {
        using var json = JsonDocument.Parse(document.AsMemory(document.AsSpan().StartsWith("\uFEFF"u8) ? 3 : 0));
        return s_schema.Evaluate(json.RootElement).IsValid;
    }

    private static string SchemaPath => Path.Combine(AppContext.BaseDirectory, "Schema", $"kvmtsc-state-{StateDocument.Version}.schema.json");

    private static void Compare(JsonNode document, JsonNode schema, string? optional = null)
    {
        var members = document.AsObject().Select(member => member.Key).Order().ToArray();
        Assert.Equal(members, schema["properties"]!.AsObject().Select(member => member.Key).Order());
        Assert.Equal(members.Where(member => member != optional), schema["required"]!.AsArray().Select(name => name!.GetValue<string>()).Order());
        Assert.False(schema["additionalProperties"]!.GetValue<bool>());
    }
}
