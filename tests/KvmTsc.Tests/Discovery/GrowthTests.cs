using KvmTsc.Clocks;
using KvmTsc.Discovery;
using KvmTsc.Machines;
using KvmTsc.Tests.Kernel;

namespace KvmTsc.Tests.Discovery;

/// <summary>That what VMs are found and read by grows with them and no faster, by system calls and bytes allocated, which a busy host does not change.</summary>
[Collection(KvmCollection.Name)]
[Trait("Category", "Kvm")]
public sealed class GrowthTests(Programs programs) : IDisposable
{
    private const double Tolerance = 1.1;

    private readonly SystemCallCount _count = new();
    private readonly List<OtherProcess> _others = [];

    public void Dispose()
    {
        _others.ForEach(other => other.Dispose());
        _count.Dispose();
    }

    [Fact]
    public void A_list_of_VMs()
    {
        const int MostCalls = 62, MostBytes = 14_000;
        AssertLinear(MostCalls, MostBytes, () => VMDiscovery.All().Select(machine => new KvmVM(machine)).ToArray());
    }

    [Fact]
    public void The_offsets_of_all_vCPUs()
    {
        const int MostCalls = 59, MostBytes = 12_500;
        AssertLinear(MostCalls, MostBytes, () => VMDiscovery.All().Select(machine => GuestTsc.ReadShownOffsets(machine, null)).ToArray());
    }

    [Fact]
    public void A_VM_that_is_named_by_its_process_takes_as_much_however_many_others_there_are()
    {
        Add(4);
        Func<object> find = () => VMDiscovery.Of(_others[0].Id);
        var among4 = Measure(find).Calls;
        Add(12);
        Assert.Equal(among4, Measure(find).Calls);
    }

    [Fact]
    public void The_vCPUs_of_a_VM()
    {
        var counts = new[] { 4, 12, 20 }.Select(vcpus =>
        {
            using var other = OtherProcess.StartReady(programs.VMs, ["vm", .. Enumerable.Range(0, vcpus).SelectMany(id => new[] { "vcpu", "0", $"{id}" })]);
            return Measure(() => GuestTsc.ReadShownOffsets(other.FindOne(), null));
        }).ToArray();
        const double Tolerance = 1.5; // few are in lists that grow by doubling
        AssertSteps(counts, 8, 11, 2_500, Tolerance);
    }

    private void AssertLinear(int mostCalls, long mostBytes, Func<object> action)
    {
        var counts = new[] { 4, 8, 8 }.Select(more =>
        {
            Add(more);
            return Measure(action);
        }).ToArray();
        AssertSteps(counts, 8, mostCalls, mostBytes);
    }

    /// <summary>Of three measurements, each with so many more than the one before.</summary>
    private static void AssertSteps((int Calls, long Bytes)[] counts, int step, int mostCalls, long mostBytes, double byteTolerance = Tolerance)
    {
        var text = string.Join(", ", counts.Select(count => $"{count.Calls} calls and {count.Bytes} bytes"));
        var (first, second) = ((counts[1].Calls - counts[0].Calls) / (double)step, (counts[2].Calls - counts[1].Calls) / (double)step);
        var bytes = (counts[2].Bytes - counts[1].Bytes) / step;
        TestContext.Current.SendDiagnosticMessage($"each takes {second} calls and {bytes} bytes: {text}");
        Assert.True(second <= first * Tolerance && second <= mostCalls, text);
        Assert.True(bytes <= mostBytes && bytes <= (counts[1].Bytes - counts[0].Bytes) / step * byteTolerance, text);
    }

    private (int Calls, long Bytes) Measure(Func<object> action)
    {
        var calls = _count.Of(() => action());
        var before = GC.GetAllocatedBytesForCurrentThread();
        _ = action();
        return (calls, GC.GetAllocatedBytesForCurrentThread() - before);
    }

    private void Add(int count)
    {
        for (var i = 0; i < count; i++)
            _others.Add(OtherProcess.StartReady(programs.VMs, "vm", "vcpu", "0", "0", "vcpu", "0", "1", "idle"));
    }
}
