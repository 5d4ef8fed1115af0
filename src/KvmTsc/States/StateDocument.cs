using System.Globalization;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Unicode;
using KvmTsc.Hosts;
using KvmTsc.Migration;

namespace KvmTsc.States;

/// <summary>
/// A state as a JSON document, docs/schema/kvmtsc-state-2.schema.json. It has a digest of its contents, which tells what was altered by
/// accident; whoever alters it on purpose can compute it anew.
/// </summary>
public static class StateDocument
{
    /// <summary>The version that is written. The first one, which lacks some clocks of the host, is read as well.</summary>
    public const int Version = 2;

    /// <summary>The oldest version that is read.</summary>
    public const int OldestVersion = 1;

    /// <summary>What is larger is not read; a state of 4096 vCPUs has a fifth of it.</summary>
    public const int MaximumBytes = 4 * 1024 * 1024;

    internal const string Format = "KvmTscState";

    /// <summary>A member that is there only where KVM did not say when the clock was read; earlier versions of KvmTsc refuse it then.</summary>
    private const string ClockError = "clockErrorNanoseconds";

    private static readonly JsonDocumentOptions s_strict = new() { AllowDuplicateProperties = false, MaxDepth = 8 };

    private static readonly JsonWriterOptions s_readable = new() { Indented = true, Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    /// <summary>Writes a state.</summary>
    /// <returns>UTF-8.</returns>
    /// <exception cref="KvmException">No kernel can have given such a state.</exception>
    public static byte[] Write(KvmTscState state)
    {
        state.Validate();
        using var contents = JsonDocument.Parse(ToJson(state).ToJsonString());
        using var stream = new MemoryStream();
        using (var writer = new Utf8JsonWriter(stream, s_readable))
        {
            writer.WriteStartObject();
            writer.WriteString("format", Format);
            writer.WriteNumber("version", Version);
            writer.WriteString("sha256", CanonicalJson.Digest(contents.RootElement));
            writer.WritePropertyName("state");
            contents.RootElement.WriteTo(writer);
            writer.WriteEndObject();
        }

        stream.WriteByte((byte)'\n');
        return stream.ToArray();
    }

    /// <summary>Reads a state, strictly.</summary>
    /// <param name="document">UTF-8.</param>
    /// <param name="source">What the document is called in errors: its file.</param>
    /// <exception cref="KvmException">It is no state, of an unknown version, not whole, was altered, or holds values that no kernel gives.</exception>
    public static KvmTscState Read(ReadOnlyMemory<byte> document, string source)
    {
        using var json = Parse(document, source);
        var root = new DocumentNode(json.RootElement, source, "the top");
        if (root["format"].Text() != Format)
            throw root["format"].Fault($"it is not {Format}");
        var version = root["version"].Int32();
        if (version is < OldestVersion or > Version)
            throw UnknownVersion(source, version);

        var contents = root.ObjectOf("format", "version", "sha256", "state")["state"];
        var state = ToState(contents with { Place = "state" }, version);
        if (root["sha256"].Text() != CanonicalJson.Digest(contents.Value))
            throw Invalid(source, "it was altered after it was written: its contents do not have the digest in sha256");
        return TscStateFaults.First(state) is { } fault ? throw Invalid(source, fault) : state;
    }

    internal static KvmException Invalid(string source, string why, Exception? exception = null) => new(
        KvmErrorId.StateDocumentInvalid,
        $"{source} is no state that can be restored: {why}.",
        "Copy the file anew from where it was exported, or capture the state anew (Save-KvmTscState).",
        exception);

    private static KvmException UnknownVersion(string source, int version) => new(
        KvmErrorId.StateVersionUnsupported,
        $"{source} is a state of version {version}; this KvmTsc reads versions {OldestVersion} to {Version}.",
        "Import it with the version of KvmTsc that exported it, or a newer one.");

    private static JsonDocument Parse(ReadOnlyMemory<byte> document, string source)
    {
        if (document.Length > MaximumBytes)
            throw Invalid(source, $"it has more than {MaximumBytes} bytes");
        if (!Utf8.IsValid(document.Span))
            throw Invalid(source, "it is no UTF-8 text");

        // Other tools may have put a byte order mark before it.
        var text = document.Span.StartsWith("\uFEFF"u8) ? document[3..] : document;
        try
        {
            return JsonDocument.Parse(text, s_strict);
        }
        catch (JsonException exception)
        {
            var place = string.Create(CultureInfo.InvariantCulture, $"line {exception.LineNumber + 1}, byte {exception.BytePositionInLine + 1}");
            throw Invalid(source, $"it is no JSON, or was cut off, at {place}", exception);
        }
        catch (InvalidOperationException exception)
        {
            // Looking for names that stand twice, the parser meets one that is half a surrogate pair.
            throw Invalid(source, "a name in it has a character that is no Unicode", exception);
        }
    }

    private static JsonObject ToJson(KvmTscState state)
    {
        var json = new JsonObject
        {
            ["vmName"] = state.VMName,
            ["processId"] = state.ProcessId,
            ["vmId"] = state.VMId,
            ["vmm"] = state.Vmm,
            ["clockNanoseconds"] = Decimal(state.ClockNanoseconds),
            ["realtimeNanoseconds"] = Decimal(state.RealtimeNanoseconds),
            ["hostTsc"] = Decimal(state.HostTsc),
            ["stoppedMicroseconds"] = Decimal(state.StoppedMicroseconds),
            ["toolVersion"] = state.ToolVersion,
            ["host"] = ToJson(state.Host),
            ["vcpus"] = new JsonArray([.. state.Vcpus.Select(ToJson)]),
        };
        if (state.ClockErrorNanoseconds is { } error)
            json[ClockError] = Decimal(error);
        return json;
    }

    private static JsonObject ToJson(KvmHostIdentity host) => new()
    {
        ["machineName"] = host.MachineName,
        ["machineId"] = host.MachineId,
        ["bootId"] = host.BootId,
        ["kernelRelease"] = host.KernelRelease,
        ["tscKHz"] = host.TscKHz,
        ["clockSynchronized"] = host.ClockSynchronized,
        ["clockStatus"] = host.ClockStatus,
        ["maxErrorMicroseconds"] = Decimal(host.MaxErrorMicroseconds),
        ["slewPpm"] = Decimal(host.SlewPpm),
        ["taiOffsetSeconds"] = host.TaiOffsetSeconds,
        ["hostTsc"] = Optional(host.HostTsc),
        ["realtimeNanoseconds"] = Optional(host.RealtimeNanoseconds),
        ["monotonicRawNanoseconds"] = Optional(host.MonotonicRawNanoseconds),
        ["suspendedNanoseconds"] = Optional(host.SuspendedNanoseconds),
        ["isVirtual"] = host.IsVirtual,
    };

    private static JsonObject ToJson(KvmVcpuTscState vcpu) => new()
    {
        ["vcpuId"] = vcpu.VcpuId,
        ["offsetTicks"] = Decimal(vcpu.OffsetTicks),
        ["tscKHz"] = vcpu.TscKHz,
        ["scalingRatio"] = Decimal(vcpu.ScalingRatio),
        ["scalingFractionBits"] = vcpu.ScalingFractionBits,
    };

    private static KvmTscState ToState(DocumentNode node, int version)
    {
        string[] names =
        [
            "vmName", "processId", "vmId", "vmm", "clockNanoseconds", "realtimeNanoseconds", "hostTsc", "stoppedMicroseconds", "toolVersion", "host", "vcpus",
        ];
        node.ObjectOf(version > OldestVersion ? [.. names, ClockError] : names);
        return new KvmTscState(
            node["vmName"].OptionalText(),
            node["processId"].Int32(),
            node["vmId"].OptionalText(),
            node["vmm"].OptionalText(),
            node["clockNanoseconds"].UInt64(),
            node["realtimeNanoseconds"].UInt64(),
            node["hostTsc"].UInt64(),
            [.. node["vcpus"].Items().Select(ToVcpu)],
            ToHost(node["host"], version),
            node["stoppedMicroseconds"].Double(),
            node["toolVersion"].OptionalText(),
            node.Find(ClockError)?.Double());
    }

    private static KvmHostIdentity ToHost(DocumentNode node, int version)
    {
        const int FirstWithClocks = 2;
        string[] names =
        [
            "machineName", "machineId", "bootId", "kernelRelease", "tscKHz", "clockSynchronized", "clockStatus", "maxErrorMicroseconds", "slewPpm",
            "taiOffsetSeconds",
        ];
        string[] clocks = ["hostTsc", "realtimeNanoseconds", "monotonicRawNanoseconds", "suspendedNanoseconds", "isVirtual"];
        var hasClocks = version >= FirstWithClocks;
        node.ObjectOf(hasClocks ? [.. names, .. clocks] : names);
        var host = new KvmHostIdentity(
            node["machineName"].OptionalText(),
            node["machineId"].OptionalText(),
            node["bootId"].OptionalText(),
            node["kernelRelease"].OptionalText(),
            node["tscKHz"].UInt32(),
            node["clockStatus"].Int32(),
            node["maxErrorMicroseconds"].Int64(),
            node["slewPpm"].Double(),
            node["taiOffsetSeconds"].Int32(),
            hasClocks ? node["hostTsc"].OptionalUInt64() : null,
            hasClocks ? node["realtimeNanoseconds"].OptionalUInt64() : null,
            hasClocks ? node["monotonicRawNanoseconds"].OptionalUInt64() : null,
            hasClocks ? node["suspendedNanoseconds"].OptionalUInt64() : null,
            hasClocks ? node["isVirtual"].OptionalBoolean() : null);
        return node["clockSynchronized"].Boolean() == host.ClockSynchronized
            ? host
            : throw node["clockSynchronized"].Fault($"it contradicts a clockStatus of {host.ClockStatus}");
    }

    private static KvmVcpuTscState ToVcpu(DocumentNode node)
    {
        node.ObjectOf("vcpuId", "offsetTicks", "tscKHz", "scalingRatio", "scalingFractionBits");
        return new KvmVcpuTscState(
            node["vcpuId"].Int32(),
            node["offsetTicks"].Int64(),
            node["tscKHz"].UInt32(),
            node["scalingRatio"].UInt64(),
            node["scalingFractionBits"].Int32());
    }

    private static string? Optional(ulong? value) => value is { } number ? Decimal(number) : null;

    private static string Decimal(IFormattable value) => value.ToString(null, CultureInfo.InvariantCulture);
}
