using KvmTsc.Migration;
using KvmTsc.States;
using KvmTsc.Tests.Simulation;

namespace KvmTsc.Tests.States;

/// <summary>Documents that were spoiled at random: refused with a reason, or harmless, and never a crash.</summary>
public sealed class StateCorruptionTests
{
    private const int Seed = 20261125;
    private const int Times = 5_000;

    private readonly Random _random = new(Seed);

    [Fact]
    public void Five_thousand_documents_with_other_bytes_are_refused_or_say_the_same() => Corrupt((corruption, document) => corruption.OfBytes(document), (original, read) =>
        Assert.Equal(RandomStates.Picture(original), RandomStates.Picture(read)));

    [Fact]
    public void Five_thousand_documents_with_other_contents_and_a_right_digest_are_refused_or_can_be_restored() =>
        Corrupt((corruption, document) => corruption.OfContents(document), (_, read) => Restore(read));

    private void Corrupt(Func<Corruption, byte[], byte[]> spoil, Action<KvmTscState, KvmTscState> judge)
    {
        var (states, corruption) = (new RandomStates(_random), new Corruption(_random));
        var (refused, taken) = (0, 0);
        for (var i = 0; i < Times; i++)
        {
            var original = states.Next();
            var spoiled = spoil(corruption, StateDocument.Write(original));
            if (Read(spoiled) is { } read)
            {
                taken++;
                judge(original, read);
                Assert.True(SchemaTests.Fits(spoiled));
            }
            else
            {
                refused++;
            }
        }

        Assert.True(refused > Times / 2 && taken > Times / 100, $"{refused} refused, {taken} taken");
    }

    private static KvmTscState? Read(byte[] document)
    {
        try
        {
            return StateDocument.Read(document, "web01.json");
        }
        catch (KvmException exception)
        {
            Assert.True(exception.ErrorId is KvmErrorId.StateDocumentInvalid or KvmErrorId.StateVersionUnsupported);
            Refusal.AssertExplains(exception, exception.ErrorId);
            Assert.StartsWith("web01.json ", exception.Message, StringComparison.Ordinal);
            return null;
        }
    }

    /// <summary>Gives the state to a VM that has its vCPUs: it is refused and nothing changes, or what is asked for is there.</summary>
    private static void Restore(KvmTscState state)
    {
        var host = new SimulatedHost(HostSpec.Ordinary with { Scaling = TscScaling.Intel }, new SimulatedTime());
        var machine = new SimulatedMachine(host, [.. state.Vcpus.Select(vcpu => vcpu.VcpuId).Order()]);
        machine.RunGuest();
        var picture = machine.Picture();
        try
        {
            var result = new TscRestore(machine, state, new TscRestoreOptions(Force: true)).Run(CancellationToken.None);
            Assert.Equal(machine.Picture().Select(vcpu => unchecked((long)vcpu.Offset)), result.Vcpus.OrderBy(vcpu => vcpu.VcpuId).Select(vcpu => vcpu.NewOffsetTicks));
        }
        catch (KvmException exception)
        {
            Assert.True(picture.SequenceEqual(machine.Picture()), exception.ToString());
        }
    }
}
