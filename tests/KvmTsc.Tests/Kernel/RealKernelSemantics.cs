using KvmTsc.Local;
using KvmTsc.Machines;
using KvmTsc.Tests.Semantics;

namespace KvmTsc.Tests.Kernel;

/// <summary>The kernel itself.</summary>
[Collection(KvmCollection.Name)]
[Trait("Category", "Kvm")]
public sealed class RealKernelSemantics : KernelSemantics, IDisposable
{
    private readonly KvmHost _host = new();

    public void Dispose() => _host.Dispose();

    private protected override Machine CreateWithoutClock(int vcpuCount) => _host.CreateWithoutClock(vcpuCount);

    private protected override void RunGuest(Machine machine)
    {
        foreach (var id in machine.VcpuIds)
            ((LocalMachine)machine).ReadGuestTsc(id);
    }
}
