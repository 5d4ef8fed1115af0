using KvmTsc.Hosts;
using KvmTsc.Interop;
using KvmTsc.Machines;
using KvmTsc.Tests.Semantics;

namespace KvmTsc.Tests.Kernel;

/// <summary>What KVM makes of a TSC that a VMM writes as an MSR, which is how VMMs restore it, kernel by kernel.</summary>
[Collection(KvmCollection.Name)]
[Trait("Category", "Kvm")]
public sealed class WrittenTscTests : IDisposable
{
    private static readonly Version s_firstAsItIs = new(6, 7);

    private readonly KvmHost _host = new();

    public void Dispose() => _host.Dispose();

    /// <summary>
    /// Less than a second off what KVM expects it is taken for an attempt to synchronise vCPUs, and not written. Until Linux 6.7 what KVM expects is that the TSC began with the
    /// VM; from then on that is what was written before, so that the first one is taken (<c>user_set_tsc</c> in kvm_synchronize_tsc).
    /// </summary>
    [Fact]
    public void A_TSC_that_is_nearly_right_is_not_written_but_for_the_first_since_Linux_6_7()
    {
        var machine = _host.CreateWithoutClock(1);
        var third = machine.HostTsc.KHz * 300L;
        Assert.Equal(IsFirstTaken ? third : 0, Moved(machine, third));
        Assert.Equal(0, Moved(machine, third));
    }

    [Fact]
    public void A_TSC_that_is_more_than_a_second_off_is_written()
    {
        var machine = _host.CreateWithoutClock(1);
        foreach (var ticks in (long[])[machine.HostTsc.KHz * 10_000L, machine.HostTsc.KHz * -5_000L])
            Assert.Equal(ticks, Moved(machine, ticks));
    }

    [Fact]
    public void A_TSC_of_0_is_that_of_the_other_vCPUs()
    {
        var machine = _host.CreateWithoutClock(2);
        var offset = Raw.GetOffset(machine, 0);
        Raw.SetMsr(machine, 1, KvmMsr.Tsc, 0);
        Assert.Equal(offset, Raw.GetOffset(machine, 1));
    }

    private static bool IsFirstTaken =>
        Version.Parse(string.Join('.', KvmHostInformation.Read().KernelRelease!.Split('.', '-', '+')[..2])) >= s_firstAsItIs;

    /// <summary>By how much the offset differs after a TSC was written that is so many ticks ahead, to a tenth of a second.</summary>
    private static long Moved(Machine machine, long ticks)
    {
        var tenth = machine.HostTsc.KHz * 100L;
        var offset = Raw.GetOffset(machine, 0);
        Raw.SetMsr(machine, 0, KvmMsr.Tsc, unchecked(HostTsc.Read() + offset + (ulong)ticks));
        var moved = unchecked((long)(Raw.GetOffset(machine, 0) - offset));
        return (long)Math.Round(moved / (double)tenth) * tenth;
    }
}
