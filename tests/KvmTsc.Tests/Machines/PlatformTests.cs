using System.Runtime.InteropServices;
using KvmTsc.Machines;
using KvmTsc.Tests.Simulation;

namespace KvmTsc.Tests.Machines;

public sealed class PlatformTests
{
    [Fact]
    public void Linux_on_x86_64_is_taken() => Platform.Require(isLinux: true, Architecture.X64);

    [Theory]
    [InlineData(Architecture.X64)]
    [InlineData(Architecture.Arm64)]
    public void What_is_not_Linux_is_refused(Architecture architecture) => Refusal.AssertExplains(
        Assert.Throws<KvmException>(() => Platform.Require(isLinux: false, architecture)), KvmErrorId.NotLinux);

    [Theory]
    [InlineData(Architecture.Arm64)]
    [InlineData(Architecture.X86)]
    public void Another_architecture_is_refused_and_named(Architecture architecture)
    {
        var exception = Assert.Throws<KvmException>(() => Platform.Require(isLinux: true, architecture));
        Refusal.AssertExplains(exception, KvmErrorId.NotX64);
        Assert.Contains(architecture.ToString(), exception.Message, StringComparison.Ordinal);
    }
}
