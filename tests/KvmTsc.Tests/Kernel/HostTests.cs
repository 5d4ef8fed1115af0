using KvmTsc.Clocks;
using KvmTsc.Hosts;
using KvmTsc.Interop;
using KvmTsc.Tests.Semantics;

namespace KvmTsc.Tests.Kernel;

/// <summary>What this host says of itself, against other witnesses of the same.</summary>
[Collection(KvmCollection.Name)]
[Trait("Category", "Kvm")]
public sealed class HostTests : IDisposable
{
    private readonly KvmHost _host = new();
    private readonly KvmHostInformation _information = KvmHostInformation.Read();

    public void Dispose() => _host.Dispose();

    [Fact]
    public void Capabilities_are_the_kernels()
    {
        Assert.Equal((KvmClockFlags)0xE, _information.ClockFlags);
        Assert.True(_information.HasTscOffset);
        Assert.True(_information.HasKvmclockCtrl);
        Assert.Equal(_host.Device.Check(KvmCapability.VcpuAttributes) != 0, _information.HasTscOffset);
        Assert.Equal(_host.Device.Check(KvmCapability.MaxVcpus), _information.MaximumVcpus);
        Assert.InRange(_information.MaximumVcpus, 1, 1_000_000);
        Assert.Equal(_host.Device.Check(KvmCapability.VMTscControl) != 0, _information.HasVMTscControl);
        Assert.NotEqual(0, _host.Device.Check(KvmCapability.GetTscKHz));
        Assert.Equal(12, _host.Device.Issue(KvmRequest.GetApiVersion, 0));
        Assert.Equal(12, _information.ApiVersion);
    }

    [Fact]
    public void A_capability_that_the_kernel_does_not_know_is_0() => Assert.Equal(0, _host.Device.Check((KvmCapability)0x7FFFFFF0));

    [Fact]
    public void Scaling_is_what_the_CPU_and_debugfs_say()
    {
        var machine = _host.Create(1);
        var directory = Assert.Single(KvmHost.DebugfsOf(machine));
        var inDebugfs = File.Exists(Path.Combine(directory, "vcpu0", "tsc-scaling-ratio"));
        Assert.Equal(_host.Device.Check(KvmCapability.TscControl) != 0, _information.HasTscScaling);
        Assert.Equal(inDebugfs, _information.HasTscScaling);
        Assert.Equal(inDebugfs ? int.Parse(KvmHost.Debugfs(machine, 0, "tsc-scaling-ratio-frac-bits"), null) : 0, _information.TscScalingFractionBits);
    }

    [Fact]
    public void The_frequency_is_that_of_a_guest_that_asked_for_none()
    {
        Assert.Equal(Raw.GetTscKHz(_host.CreateWithoutClock(1), 0), _information.TscKHz);
        Assert.NotEqual(0u, _information.TscKHz);
    }

    [Fact]
    public void The_host_is_named_as_the_kernel_names_it()
    {
        Assert.Equal(File.ReadAllText("/proc/sys/kernel/random/boot_id").Trim(), _information.BootId);
        Assert.Equal(File.ReadAllText("/proc/sys/kernel/osrelease").Trim(), _information.KernelRelease);
        Assert.Equal(Environment.MachineName, _information.MachineName);
        Assert.Equal(File.ReadAllText("/sys/devices/system/clocksource/clocksource0/current_clocksource").Trim(), _information.ClockSource);
        Assert.True(Directory.Exists($"/sys/module/{_information.KvmModule}"));
        Assert.Equal(_information.ClockSource == "tsc", _information.CanMigrateTsc);
        var identity = _host.Create(1).Host;
        Assert.Equal((_information.BootId, _information.TscKHz), (identity.BootId, identity.TscKHz));
        Assert.Equal((_information.MachineName, _information.KernelRelease), (identity.MachineName, identity.KernelRelease));
        Assert.Equal(File.Exists("/etc/machine-id") ? File.ReadAllText("/etc/machine-id").Trim() : null, identity.MachineId);
        Assert.Equal(_information.ClockSynchronized, identity.ClockSynchronized);
    }

    [Fact]
    public void A_clock_reading_is_of_the_instant_at_which_it_was_read()
    {
        var machine = _host.Create(1);
        var (tsc, realtime) = HostClock.Now;
        var clock = GuestClock.Read(machine, CancellationToken.None);
        Assert.InRange(clock.HostTsc!.Value, tsc, HostTsc.Read());

        // .NET's clock is cut to 100 ns.
        Assert.InRange(clock.RealtimeNanoseconds!.Value, realtime, HostClock.Now.Realtime + 100);
    }

    [Fact]
    public void A_device_that_was_closed_is_no_use()
    {
        var device = KvmDevice.Open();
        device.Dispose();
        Assert.Throws<ObjectDisposedException>(() => device.Check(KvmCapability.MaxVcpus));
    }
}
