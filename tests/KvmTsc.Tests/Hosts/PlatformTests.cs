using KvmTsc.Hosts;
using KvmTsc.Tests.Simulation;
using CpuArchitecture = System.Runtime.InteropServices.Architecture;

namespace KvmTsc.Tests.Hosts;

public sealed class PlatformTests
{
    [Fact]
    public void Linux_on_x86_64_is_taken() => Platform.Require(isLinux: true, CpuArchitecture.X64);

    [Theory]
    [InlineData(CpuArchitecture.X64)]
    [InlineData(CpuArchitecture.Arm64)]
    public void What_is_not_Linux_is_refused(CpuArchitecture architecture) => Refusal.AssertExplains(
        Assert.Throws<KvmException>(() => Platform.Require(isLinux: false, architecture)), KvmErrorId.NotLinux);

    [Theory]
    [InlineData(CpuArchitecture.Arm64)]
    [InlineData(CpuArchitecture.X86)]
    public void Another_architecture_is_refused_and_named(CpuArchitecture architecture)
    {
        var exception = Assert.Throws<KvmException>(() => Platform.Require(isLinux: true, architecture));
        Refusal.AssertExplains(exception, KvmErrorId.NotX64);
        Assert.Contains(architecture.ToString(), exception.Message, StringComparison.Ordinal);
    }
}
