using KvmTsc.Execution.Attach;

namespace KvmTsc.Tests.Attach;

public sealed class VcpuThreadNamesTests
{
    [Theory]
    [InlineData(0, "CPU 0/KVM")] // QEMU
    [InlineData(12, "CPU 12/KVM")]
    [InlineData(3, "CPU3/KVM")] // StratoVirt
    [InlineData(1, "fc_vcpu 1")] // Firecracker
    [InlineData(7, "vcpu7")] // cloud-hypervisor
    [InlineData(0, "crosvm_vcpu0")]
    [InlineData(31, "kvm-vcpu-31")] // kvmtool
    [InlineData(null, "CPU 0/TCG")]
    [InlineData(null, "CPU 0")]
    [InlineData(null, "vcpu")]
    [InlineData(null, "vcpu1x")]
    [InlineData(null, "myvcpu1")]
    [InlineData(null, "vcpu99999999999")]
    [InlineData(null, "qemu-system-x86")]
    public void The_names_of_VMMs_are_known(int? expected, string name) => Assert.Equal(expected, VcpuThreadNames.NumberIn(name));
}
