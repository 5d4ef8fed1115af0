using KvmTsc.Discovery;
using KvmTsc.Processes;

namespace KvmTsc.Tests.Discovery;

public sealed class VmmCommandLineTests
{
    [Theory]
    [InlineData("web01", "-name", "web01")]
    [InlineData("web01", "--name", "web01")]
    [InlineData("web01", "-name", "guest=web01,debug-threads=on")]
    [InlineData("web01", "-name", "web01,process=qemu-web01")]
    [InlineData("web01", "-name", "debug-threads=on,guest=web01")]
    [InlineData("web 01, old", "-name", "web 01,, old")]
    [InlineData("a,b", "-name", "guest=a,,b,debug-threads=on")]
    [InlineData("a=b", "-name", "guest=a=b")]
    [InlineData("a,", "-name", "a,,")]
    [InlineData("late", "-name", "early", "-smp", "2", "-name", "late")]
    [InlineData("early", "-name", "early", "-name", "debug-threads=on")]
    [InlineData(null, "-name", "process=qemu-web01")]
    [InlineData(null, "-name", "debug-threads=on,web01")]
    [InlineData(null, "-name", "")]
    [InlineData(null, "-name")]
    [InlineData(null, "-smp", "2")]
    public void QEMU_names_its_VM_by_name(string? expected, params string[] arguments) =>
        Assert.Equal(expected, Parse("/usr/bin/qemu-system-x86_64", arguments).VMName);

    [Theory]
    [InlineData("/usr/bin/qemu-system-x86_64", "QEMU")]
    [InlineData("/usr/libexec/qemu-kvm", "QEMU")]
    [InlineData("/usr/bin/kvm", "QEMU")]
    [InlineData("/nix/store/x/bin/.qemu-system-x86_64-wrapped", "QEMU")]
    [InlineData("/usr/bin/qemu-system-x86_64 (deleted)", "QEMU")]
    [InlineData("/firecracker", "Firecracker")]
    [InlineData("/opt/firecracker-v1.7.0-x86_64", "Firecracker")]
    [InlineData("/usr/bin/cloud-hypervisor-static", "cloud-hypervisor")]
    [InlineData("/usr/bin/crosvm", "crosvm")]
    [InlineData("/usr/bin/kvm-spice", "QEMU")]
    [InlineData("/opt/kata/bin/qemu-vanilla-system-x86_64", "QEMU")]
    [InlineData("/usr/bin/kvm-something", "kvm-something")]
    [InlineData("/usr/bin/lkvm", "kvmtool")]
    [InlineData("/usr/bin/vm", "kvmtool")]
    [InlineData("/usr/bin/vmtouch", "vmtouch")]
    [InlineData("/usr/bin/stratovirt", "StratoVirt")]
    [InlineData("/usr/lib/virtualbox/VBoxHeadless", "VirtualBox")]
    [InlineData("/usr/local/bin/containerd-shim-kata-v2", "Dragonball")]
    [InlineData("/usr/local/bin/containerd-shim-nerdbox-v1", "nerdbox")]
    [InlineData("/opt/a-program-with-a-name-of-more-than-15-letters", "a-program-with-a-name-of-more-than-15-letters")]
    [InlineData("/opt/my vmm", "my vmm")]
    [InlineData("bare", "bare")]
    public void The_VMM_is_known_by_its_program(string program, string expected) => Assert.Equal(expected, Parse(program).Vmm);

    [Theory]
    [InlineData("/firecracker", "vm-1", "--id", "vm-1", "--start-time-us", "1")]
    [InlineData("/firecracker", "vm-1", "--api-sock", "/run/x.sock", "--id=vm-1")]
    [InlineData("/firecracker", "x", "--api-sock", "/run/x.sock")]
    [InlineData("/usr/bin/cloud-hypervisor", "web01", "--api-socket", "/run/web01.sock", "--cpus", "boot=2")]
    [InlineData("/usr/bin/cloud-hypervisor", "web01", "--api-socket", "path=/run/vms/web01.sock")]
    [InlineData("/usr/bin/cloud-hypervisor", "4f2a", "--api-socket", "/run/vc/vm/4f2a/clh-api.sock")]
    [InlineData("/usr/bin/cloud-hypervisor", null, "--api-socket", "fd=5")]
    [InlineData("/usr/bin/cloud-hypervisor", null, "--cpus", "boot=2")]
    [InlineData("/usr/bin/cloud-hypervisor", "web01.example.com", "--api-socket", "/run/web01.example.com.sock")]
    [InlineData("/usr/bin/cloud-hypervisor", "web01", "--api-socket", "path=/run/libvirt/ch/web01-socket")]
    [InlineData("/usr/bin/cloud-hypervisor", "web01", "--api-socket=/var/lib/vms/web01/cloudhypervisor.sock")]
    [InlineData("/usr/bin/cloud-hypervisor", "web01", "--api-socket", "/srv/web01/run/ch-api.sock")]
    [InlineData("/usr/bin/cloud-hypervisor", null, "--api-socket", "/run/api.sock")]
    [InlineData("/firecracker", "4f2a", "--api-sock", "/tmp/fc-4f2a.sock", "--config-file", "c.json")]
    [InlineData("/firecracker", "4f2a", "--api-sock", "/srv/4f2a/api.socket")]
    [InlineData("/firecracker", null, "--api-sock", "/run/firecracker.socket")]
    [InlineData("/usr/bin/crosvm", "web01", "run", "--socket", "/run/vms/web01/crosvm.sock")]
    [InlineData("/usr/bin/lkvm", "web01", "run", "--name", "web01", "--cpus", "2", "-k", "bzImage")]
    [InlineData("/usr/bin/vm", "web01", "run", "-n", "web01")]
    [InlineData("/usr/bin/stratovirt", "web01", "-machine", "microvm", "-name", "web01")]
    [InlineData("/usr/bin/stratovirt", "web01", "-qmp", "unix:/run/web01.sock,server,nowait")]
    [InlineData("/usr/bin/stratovirt", null, "-qmp", "unix:/tmp/stratovirt.socket,server,nowait")]
    [InlineData("/usr/lib/virtualbox/VBoxHeadless", "web01", "--comment", "web01", "--startvm", "4f2ab9e0-0000-0000-0000-000000000000", "--vrde", "config")]
    [InlineData("/usr/local/bin/containerd-shim-kata-v2", "4f2a", "-namespace", "k8s.io", "-address", "/run/containerd/containerd.sock", "-id", "4f2a")]
    [InlineData("/opt/android/emulator/qemu/linux-x86_64/qemu-system-x86_64-headless", "Pixel_8", "-avd", "Pixel_8", "-no-window")]
    [InlineData("/usr/bin/qemu-system-x86_64", "web\uFFFD[2J01", "-name", "web\u001b[2J01")]
    [InlineData("/usr/bin/crosvm", "web01", "run", "--name", "web01", "--socket", "/run/other.sock")]
    [InlineData("/usr/bin/crosvm", "web01", "run", "-s", "/run/web01.sock")]
    [InlineData("/usr/bin/crosvm", null, "run", "vmlinux")]
    [InlineData("/usr/bin/other", null, "-name", "web01", "--id", "web01", "--name", "web01")]
    public void Other_VMMs_name_their_VMs_as_they_do(string program, string? expected, params string[] arguments) =>
        Assert.Equal(expected, Parse(program, arguments).VMName);

    [Fact]
    public void A_process_without_a_command_line_has_a_VMM_all_the_same()
    {
        var found = VmmCommandLine.Parse("/usr/bin/qemu-system-x86_64", []);
        Assert.Equal("QEMU", found.Vmm);
        Assert.Null(found.VMName);
    }

    [Fact]
    public void The_command_line_of_a_process_is_read() =>
        Assert.Equal(Path.GetFileName(Environment.ProcessPath), VmmCommandLine.Read(Environment.ProcessId)!.Vmm);

    [Fact]
    public void A_process_that_has_lost_its_memory_has_none()
    {
        using var parent = OtherProcess.StartReady("sh", "-c", "sleep 0.3 & echo child $!; echo ready; exec cat");
        Until.True(() => ProcessStatus.Read($"/proc/{parent.Children[0]}")!.IsDead, isDead => isDead);
        Assert.Null(VmmCommandLine.Read(parent.Children[0]));
    }

    private static VmmCommandLine Parse(string program, params string[] arguments) => VmmCommandLine.Parse(program, [program, .. arguments]);
}
