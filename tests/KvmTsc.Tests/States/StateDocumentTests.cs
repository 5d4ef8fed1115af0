using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using KvmTsc.Hosts;
using KvmTsc.Migration;
using KvmTsc.States;
using KvmTsc.Tests.Simulation;

namespace KvmTsc.Tests.States;

public sealed class StateDocumentTests
{
    private const int Seed = 815;

    /// <summary>A document as it was published with the first version: every later one of KvmTsc has to read it.</summary>
    private const string PublishedFirst = """
        {
          "format": "KvmTscState",
          "version": 1,
          "sha256": "50356cd801d42106fe8285f139d1f485b1513109ab472a7eb6e4588892cc62c9",
          "state": {
            "vmName": "web01",
            "processId": 4711,
            "vmId": "4711:12",
            "vmm": "qemu-system-x86_64",
            "clockNanoseconds": "18446744073709551615",
            "realtimeNanoseconds": "1795345054890864385",
            "hostTsc": "9007199254740993",
            "stoppedMicroseconds": "512.25",
            "toolVersion": "0.1.0",
            "host": {
              "machineName": "kvm1",
              "machineId": "0123456789abcdef0123456789abcdef",
              "bootId": "bdb1f63e-b352-4a2c-acff-c37667ecdc2e",
              "kernelRelease": "6.1.0-56-amd64",
              "tscKHz": 2096026,
              "clockSynchronized": true,
              "clockStatus": 8193,
              "maxErrorMicroseconds": "4000",
              "slewPpm": "-12.5",
              "taiOffsetSeconds": 37
            },
            "vcpus": [
              {
                "vcpuId": 0,
                "offsetTicks": "-9223372036854775808",
                "tscKHz": 2096026,
                "scalingRatio": "281474976710656",
                "scalingFractionBits": 48
              },
              {
                "vcpuId": 3,
                "offsetTicks": "-564650553957",
                "tscKHz": 2096026,
                "scalingRatio": "281474976710656",
                "scalingFractionBits": 48
              }
            ]
          }
        }

        """;

    /// <summary>The same, as it is published now.</summary>
    private const string Published = """
        {
          "format": "KvmTscState",
          "version": 2,
          "sha256": "210723dadb1037acc934c63db39b6908a9b38fc7600cc61cf4b051585e0f3991",
          "state": {
            "vmName": "web01",
            "processId": 4711,
            "vmId": "4711:12",
            "vmm": "qemu-system-x86_64",
            "clockNanoseconds": "18446744073709551615",
            "realtimeNanoseconds": "1795345054890864385",
            "hostTsc": "9007199254740993",
            "stoppedMicroseconds": "512.25",
            "toolVersion": "0.1.0",
            "host": {
              "machineName": "kvm1",
              "machineId": "0123456789abcdef0123456789abcdef",
              "bootId": "bdb1f63e-b352-4a2c-acff-c37667ecdc2e",
              "kernelRelease": "6.1.0-56-amd64",
              "tscKHz": 2096026,
              "clockSynchronized": true,
              "clockStatus": 8193,
              "maxErrorMicroseconds": "4000",
              "slewPpm": "-12.5",
              "taiOffsetSeconds": 37,
              "hostTsc": "9007199254740992",
              "realtimeNanoseconds": "1795345054890000000",
              "monotonicRawNanoseconds": "4297193000000",
              "suspendedNanoseconds": "0",
              "isVirtual": false
            },
            "vcpus": [
              {
                "vcpuId": 0,
                "offsetTicks": "-9223372036854775808",
                "tscKHz": 2096026,
                "scalingRatio": "281474976710656",
                "scalingFractionBits": 48
              },
              {
                "vcpuId": 3,
                "offsetTicks": "-564650553957",
                "tscKHz": 2096026,
                "scalingRatio": "281474976710656",
                "scalingFractionBits": 48
              }
            ]
          }
        }

        """;

    private readonly RandomStates _states = new(new Random(Seed));

    private static KvmTscState PublishedState { get; } = new(
        "web01", 4711, "4711:12", "qemu-system-x86_64", ulong.MaxValue, 1_795_345_054_890_864_385, (1UL << 53) + 1,
        [new(0, long.MinValue, 2_096_026, 1UL << 48, 48), new(3, -564_650_553_957, 2_096_026, 1UL << 48, 48)],
        new KvmHostIdentity("kvm1", "0123456789abcdef0123456789abcdef", "bdb1f63e-b352-4a2c-acff-c37667ecdc2e", "6.1.0-56-amd64", 2_096_026, 8193, 4000, -12.5, 37, 1UL << 53, 1_795_345_054_890_000_000, 4_297_193_000_000, 0, false),
        512.25, "0.1.0");

    [Fact]
    public void Every_state_comes_back_with_all_that_it_had()
    {
        for (var i = 0; i < 2_000; i++)
        {
            var state = _states.Next();
            Assert.Equal(RandomStates.Picture(state), RandomStates.Picture(Read(StateDocument.Write(state))));
        }
    }

    [Fact]
    public void The_format_is_the_published_one()
    {
        Assert.Equal(Published, Encoding.UTF8.GetString(StateDocument.Write(PublishedState)));
        Assert.Equal(RandomStates.Picture(PublishedState), RandomStates.Picture(Read(Encoding.UTF8.GetBytes(Published))));
    }

    [Fact]
    public void A_document_of_the_first_version_is_read_and_lacks_only_what_that_had_not()
    {
        var host = PublishedState.Host;
        var first = PublishedState.With(host: new KvmHostIdentity(
            host.MachineName, host.MachineId, host.BootId, host.KernelRelease, host.TscKHz, host.ClockStatus, host.MaxErrorMicroseconds, host.SlewPpm, host.TaiOffsetSeconds));
        Assert.Equal(RandomStates.Picture(first), RandomStates.Picture(Read(Encoding.UTF8.GetBytes(PublishedFirst))));
        Assert.Equal(RandomStates.Picture(first), RandomStates.Picture(Read(StateDocument.Write(first))));
    }

    [Fact]
    public void The_digest_is_that_of_the_canonical_form()
    {
        for (var i = 0; i < 300; i++)
        {
            var document = JsonText.Parse(StateDocument.Write(_states.Next()));
            Assert.Equal(JsonText.Digest(document["state"]), document["sha256"]!.GetValue<string>());
        }
    }

    [Fact]
    public void What_other_tools_make_of_a_document_is_the_same_state()
    {
        var state = _states.Next();
        var document = JsonText.Parse(StateDocument.Write(state));
        byte[][] same =
        [
            JsonText.Bytes(document),
            JsonText.Bytes(Reversed(document)),
            [.. "\uFEFF"u8, .. JsonText.Bytes(document)],
            Encoding.UTF8.GetBytes(document.ToJsonString(new JsonSerializerOptions { WriteIndented = true, IndentSize = 7, NewLine = "\r\n" })),
        ];
        foreach (var one in same)
            Assert.Equal(RandomStates.Picture(state), RandomStates.Picture(Read(one)));
    }

    [Fact]
    public void Every_truncated_document_is_refused()
    {
        var document = Encoding.UTF8.GetBytes(Published);
        for (var length = 0; length < document.Length - 1; length++)
        {
            var exception = Assert.Throws<KvmException>(() => Read(document[..length]));
            Assert.Equal(KvmErrorId.StateDocumentInvalid, exception.ErrorId);
            Assert.Contains("cut off, at line ", exception.Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void Every_digit_counts()
    {
        var start = Published.IndexOf("\"state\"", StringComparison.Ordinal);
        foreach (var at in Enumerable.Range(start, Published.Length - start).Where(at => char.IsAsciiDigit(Published[at])))
        {
            var altered = new StringBuilder(Published) { [at] = Published[at] == '7' ? '8' : '7' }.ToString();
            Refused(altered);
        }
    }

    [Theory]
    [InlineData("", "cut off, at line 1, byte 1")]
    [InlineData("null", "at the top, null is not an object")]
    [InlineData("[]", "at the top, a list is not an object")]
    [InlineData("{}", "it has no format")]
    [InlineData("{\"format\": \"KvmTscState\"}", "it has no version")]
    [InlineData("{\"format\": 1}", "at the top.format, 1 is not a text")]
    [InlineData("{\"format\": \"other\"}", "it is not KvmTscState")]
    [InlineData("{\"format\": \"KvmTscState\", \"version\": \"1\"}", "at the top.version, \"1\" is not an integer")]
    [InlineData("{\"format\": \"KvmTscState\", \"version\": 1.0}", "at the top.version, 1.0 is not an integer")]
    [InlineData("{\"format\": \"KvmTscState\", \"version\": 1, \"sha256\": \"\", \"state\": {}}", "at state, it has no vmName")]
    [InlineData("{\"format\": \"KvmTscState\", \"format\": \"KvmTscState\", \"version\": 1}", "it is no JSON")]
    [InlineData("{\"format\": \"KvmTscState\", \"version\": 1, // comment\n \"sha256\": \"\"}", "it is no JSON")]
    [InlineData("{\"format\": \"KvmTscState\", \"\\ud800\": 1, \"version\": 1, \"sha256\": \"\", \"state\": {}}", "a name in it has a character that is no Unicode")]
    [InlineData("{\"format\": \"\\ud800\"}", "no Unicode")]
    [InlineData("[[[[[[[[[[[[]]]]]]]]]]]]", "it is no JSON")]
    public void What_is_no_state_is_refused_for_what_it_is(string document, string why) => Assert.Contains(why, Refused(document).Message, StringComparison.Ordinal);

    [Fact]
    public void What_is_no_UTF8_is_refused()
    {
        Assert.Contains("no JSON", Refused(Encoding.Unicode.GetBytes(Published)).Message, StringComparison.Ordinal);
        Assert.Contains("no UTF-8", Refused([.. "{\"format\": \""u8, 0xC3, .. "\"}"u8]).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void What_follows_a_document_is_refused() => Refused(Published + "{}");

    [Fact]
    public void What_is_too_large_is_refused()
    {
        var padded = Encoding.UTF8.GetBytes(Published.PadRight(StateDocument.MaximumBytes));
        Read(padded);
        Assert.Contains("more than 4194304 bytes", Refused([.. padded, (byte)' ']).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_state_of_as_many_vCPUs_as_KVM_can_have_is_not_too_large()
    {
        var vcpus = Enumerable.Range(0, 4096).Select(i => new KvmVcpuTscState(4 * i, long.MinValue, uint.MaxValue, 1UL << 63, 63)).ToArray();
        var document = StateDocument.Write(PublishedState.With(vcpus: vcpus));
        Assert.InRange(document.Length, 1, StateDocument.MaximumBytes / 4);
        Assert.Equal(4096, Read(document).Vcpus.Count);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(3)]
    [InlineData(int.MaxValue)]
    [InlineData(-1)]
    public void An_unknown_version_is_named_before_anything_else_is_looked_at(int version)
    {
        var document = Encoding.UTF8.GetBytes($$$"""{"format": "KvmTscState", "version": {{{version}}}, "new": {}}""");
        var exception = Assert.Throws<KvmException>(() => Read(document));
        Refusal.AssertExplains(exception, KvmErrorId.StateVersionUnsupported);
        Assert.Contains($"version {version}; this KvmTsc reads versions 1 to 2", exception.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("", "\"extra\": 1", "at the top, it has \"extra\"")]
    [InlineData("state", "\"extra\": 1", "at state, it has \"extra\"")]
    [InlineData("state", "\"\\u001b[2J\": 1", "at state, it has \"\\u001B[2J\"")]
    [InlineData("state.host", "\"extra\": 1", "at state.host, it has \"extra\"")]
    [InlineData("state.vcpus.1", "\"extra\": 1", "at state.vcpus[1], it has \"extra\"")]
    [InlineData("state.vcpus.1", "\"tscKHz\": \"5\"", "at state.vcpus[1].tscKHz, \"5\" is not an integer from 0")]
    [InlineData("state.vcpus.1", "\"tscKHz\": 4294967296", "at state.vcpus[1].tscKHz, 4294967296 is not")]
    [InlineData("state.vcpus.1", "\"tscKHz\": 0", "vCPU 3 has a TSC of 0 kHz")]
    [InlineData("state.vcpus.1", "\"tscKHz\": 3000000, \"scalingRatio\": \"402873337187617\"", "which does not make 3000000 kHz of the host's 2096026 kHz")]
    [InlineData("state.vcpus.1", "\"scalingRatio\": \"0\"", "vCPU 3 has the ratio 0 / 2^48")]
    [InlineData("state.vcpus.1", "\"scalingFractionBits\": 0", "vCPU 3 has the ratio 281474976710656 / 2^0")]
    [InlineData("state.vcpus.1", "\"scalingFractionBits\": 64", "64 fraction bits")]
    [InlineData("state.vcpus.1", "\"offsetTicks\": 5", "at state.vcpus[1].offsetTicks, 5 is not a decimal integer of 64 bits")]
    [InlineData("state.vcpus.1", "\"offsetTicks\": \"9223372036854775808\"", "at state.vcpus[1].offsetTicks, \"9223372036854775808\" is not")]
    [InlineData("state.vcpus.1", "\"vcpuId\": 0", "a vCPU stands in it twice")]
    [InlineData("state.vcpus.1", "\"vcpuId\": -1", "a vCPU has the id -1")]
    [InlineData("state.vcpus.1", "\"vcpuId\": 16384", "a vCPU has the id 16384")]
    [InlineData("state", "\"vcpus\": []", "it has no vCPUs")]
    [InlineData("state", "\"vcpus\": [5]", "at state.vcpus[0], 5 is not an object")]
    [InlineData("state", "\"vcpus\": {}", "at state.vcpus, an object is not a list")]
    [InlineData("state", "\"host\": null", "at state.host, null is not an object")]
    [InlineData("state", "\"processId\": 0", "ProcessId is 0")]
    [InlineData("state", "\"processId\": 4194305", "ProcessId is 4194305")]
    [InlineData("state", "\"vmName\": 5", "at state.vmName, 5 is not a text")]
    [InlineData("state", "\"hostTsc\": \"0\"", "no host TSC")]
    [InlineData("state", "\"hostTsc\": \"18446744073709551616\"", "at state.hostTsc, \"18446744073709551616\" is not")]
    [InlineData("state", "\"hostTsc\": \"+5\"", "at state.hostTsc")]
    [InlineData("state", "\"hostTsc\": \"05\"", "at state.hostTsc")]
    [InlineData("state", "\"hostTsc\": \"5.0\"", "at state.hostTsc")]
    [InlineData("state", "\"realtimeNanoseconds\": \"0\"", "no CLOCK_REALTIME")]
    [InlineData("state", "\"realtimeNanoseconds\": \"9223372036854775808\"", "more than CLOCK_REALTIME can be")]
    [InlineData("state", "\"stoppedMicroseconds\": \"-1\"", "StoppedMicroseconds is -1")]
    [InlineData("state", "\"stoppedMicroseconds\": \"NaN\"", "StoppedMicroseconds is NaN")]
    [InlineData("state", "\"stoppedMicroseconds\": \"0.50\"", "at state.stoppedMicroseconds, \"0.50\" is not a decimal number")]
    [InlineData("state.host", "\"tscKHz\": 0", "the host has a TSC of 0 kHz")]
    [InlineData("state.host", "\"clockSynchronized\": false", "contradicts a clockStatus of 8193")]
    [InlineData("state.host", "\"clockSynchronized\": 1", "at state.host.clockSynchronized, 1 is not true or false")]
    [InlineData("state.host", "\"clockStatus\": 73729", "ClockStatus is 73729")]
    [InlineData("state.host", "\"maxErrorMicroseconds\": \"-1\"", "MaxErrorMicroseconds is -1")]
    [InlineData("state.host", "\"slewPpm\": \"100501\"", "SlewPpm is 100501")]
    [InlineData("state.host", "\"slewPpm\": \"NaN\"", "SlewPpm is NaN")]
    [InlineData("state.host", "\"taiOffsetSeconds\": -1", "TaiOffsetSeconds is -1")]
    [InlineData("state.host", "\"taiOffsetSeconds\": 1e400", "at state.host.taiOffsetSeconds, 1e400 is not an integer")]
    [InlineData("state.host", "\"taiOffsetSeconds\": 100001", "TaiOffsetSeconds is 100001")]
    public void Values_that_no_kernel_gives_are_refused_and_named_whatever_the_digest_says(string place, string values, string why)
    {
        var document = JsonText.Parse(Encoding.UTF8.GetBytes(Published));
        JsonNode node = document;
        foreach (var step in place.Split('.', StringSplitOptions.RemoveEmptyEntries))
            node = int.TryParse(step, out var index) ? node[index]! : node[step]!;
        foreach (var (name, value) in JsonNode.Parse($"{{{values}}}")!.AsObject())
            node[name] = value?.DeepClone();
        Assert.Contains(why, Refused(JsonText.Bytes(JsonText.Sign(document))).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Each_member_is_needed()
    {
        foreach (var place in new[] { "", "state", "state.host", "state.vcpus" })
        {
            foreach (var name in Members(JsonText.Parse(Encoding.UTF8.GetBytes(Published)), place).Select(member => member.Key).ToArray())
            {
                var document = JsonText.Parse(Encoding.UTF8.GetBytes(Published));
                Members(document, place).Remove(name);
                Assert.Contains($"it has no {name}", Refused(JsonText.Bytes(JsonText.Sign(document))).Message, StringComparison.Ordinal);
            }
        }
    }

    [Fact]
    public void A_state_that_could_not_be_read_again_is_not_written()
    {
        KvmTscState[] invalid =
        [
            PublishedState.With(realtime: ulong.MaxValue),
            PublishedState.With(vcpus: [null!]),
            PublishedState.With(host: new KvmHostIdentity("\uD800", null, null, null, 1_000_000, 0, 0, 0, 0)),
            PublishedState.With(host: new KvmHostIdentity(new string('x', 4097), null, null, null, 1_000_000, 0, 0, 0, 0)),
            PublishedState.With(host: new KvmHostIdentity(null, null, null, null, 1_000_000, 0, 0, double.NaN, 0)),
        ];
        foreach (var state in invalid)
            Refusal.AssertExplains(Assert.Throws<KvmException>(() => StateDocument.Write(state)), KvmErrorId.InvalidValue);
    }

    private static JsonObject Members(JsonObject document, string place) => place switch
    {
        "" => document,
        "state" => document["state"]!.AsObject(),
        "state.host" => document["state"]!["host"]!.AsObject(),
        _ => document["state"]!["vcpus"]![1]!.AsObject(),
    };

    private static JsonObject Reversed(JsonObject members) => new(members.Reverse().Select(member =>
        KeyValuePair.Create(member.Key, member.Value is JsonObject inner ? Reversed(inner) : member.Value?.DeepClone())));

    private static KvmTscState Read(byte[] document) => StateDocument.Read(document, "web01.json");

    private static KvmException Refused(string document) => Refused(Encoding.UTF8.GetBytes(document));

    private static KvmException Refused(byte[] document)
    {
        var exception = Assert.Throws<KvmException>(() => Read(document));
        Refusal.AssertExplains(exception, KvmErrorId.StateDocumentInvalid);
        Assert.StartsWith("web01.json is no state", exception.Message, StringComparison.Ordinal);
        return exception;
    }
}
