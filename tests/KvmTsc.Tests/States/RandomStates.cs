using System.Text.Json;
using KvmTsc.Hosts;
using KvmTsc.Migration;

namespace KvmTsc.Tests.States;

/// <summary>States that a kernel can have given, at the limits more often than not.</summary>
internal sealed class RandomStates(Random random)
{
    private static readonly string?[] s_texts =
        [null, "", "web01", "a\"b\\c/d", "tab\there\nand there\u0001\u007F", "Zürich, 東京, 🕰️", "\uFEFFmark", "\u2028"];

    private static readonly double[] s_doubles = [0, -0.0, 1, 0.1, 12.5, 1e-7, 1e21, double.Epsilon, double.MaxValue];

    public KvmTscState Next()
    {
        var hostKHz = KHz();
        return new KvmTscState(
            Text(),
            random.Next(1, TscStateFaults.MaximumProcessId + 1),
            Text(),
            Text(),
            Counter(),
            Math.Max(1, Counter() >> 1),
            Math.Max(1, Counter()),
            [.. Vcpus(hostKHz)],
            Host(hostKHz),
            Math.Abs(Pick(s_doubles)),
            Text(),
            random.Next(2) == 0 ? null : Math.Abs(Pick(s_doubles)));
    }

    public T Pick<T>(IReadOnlyList<T> values) => values[random.Next(values.Count)];

    /// <summary>All that a state has.</summary>
    public static string Picture(KvmTscState state) => JsonSerializer.Serialize(state);

    private KvmHostIdentity Host(uint kHz)
    {
        var hasClocks = random.Next(4) != 0;
        return new(
            Text(), Text(), Text(), Text(), kHz, random.Next(0x10000), (long)(Counter() >> 1), Pick([0, -0.0, -499.99, 1e-300, 100_500, -100_500]), random.Next(100_001),
            Clock(), Clock(), Clock(), Clock(), hasClocks ? random.Next(2) == 0 : null);

        ulong? Clock() => hasClocks ? Counter() : null;
    }

    private IEnumerable<KvmVcpuTscState> Vcpus(uint hostKHz)
    {
        var first = random.Next(TscStateFaults.VcpuIdLimit - 8);
        return Enumerable.Range(first, random.Next(1, 9)).Select(id =>
        {
            var (kHz, bits) = (KHz(), Pick([0, 32, 48, 63]));
            var ratio = bits == 0 ? 0 : random.Next(2) == 0 ? 1UL << bits : Ratio(kHz, hostKHz, bits);
            return new KvmVcpuTscState(id, unchecked((long)Counter()), kHz, ratio, bits);
        });
    }

    private static ulong Ratio(uint kHz, uint hostKHz, int bits) =>
        ((UInt128)kHz << bits) / hostKHz is var ratio && ratio > 0 && ratio <= ulong.MaxValue ? (ulong)ratio : 1UL << bits;

    private uint KHz() => random.Next(4) switch
    {
        0 => Pick<uint>([1, 1_000_000, uint.MaxValue, int.MaxValue]),
        _ => (uint)random.Next(400_000, 5_500_000),
    };

    private ulong Counter() => random.Next(4) switch
    {
        0 => Pick<ulong>([0, 1, 1UL << 53, (1UL << 53) + 1, long.MaxValue, 1UL << 63, ulong.MaxValue]),
        1 => 1_700_000_000_000_000_000 + (ulong)random.NextInt64(1_000_000_000),
        _ => unchecked((ulong)random.NextInt64(long.MinValue, long.MaxValue)),
    };

    private string? Text() => random.Next(100) == 0 ? new string('x', TscStateFaults.MaximumTextLength) : Pick(s_texts);
}
