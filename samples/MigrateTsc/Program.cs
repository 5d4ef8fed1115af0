// Migrates the TSC and the kvmclock of one VM to another with the engine alone, and has both guests confirm it:
// what Invoke-TwoVMMigration.ps1 does with the cmdlets.
using KvmTsc.Arithmetic;
using KvmTsc.Clocks;
using KvmTsc.Hosts;
using KvmTsc.Local;
using KvmTsc.Migration;

const int VcpuCount = 2;
const long SourceOffset = -180_000_000_000;

var host = KvmHostInformation.Read();
Console.WriteLine($"KVM host {host.MachineName}: Linux {host.KernelRelease}, {host.KvmModule}, TSC {host.TscKHz} kHz");

using var device = KvmDevice.Open();
using var source = LocalMachine.Create(device, "web01", VcpuCount);
using var destination = LocalMachine.Create(device, "web01-new", VcpuCount);
GuestTsc.SetOffsets(source, source.VcpuIds.ToDictionary(id => id, _ => SourceOffset), force: false, CancellationToken.None);

var confirmed = true;
foreach (var method in new[] { TscMethod.Documented, TscMethod.Best })
{
    var result = TscMigration.Run(source, destination, new TscRestoreOptions(method, Force: true), CancellationToken.None);
    Console.WriteLine();
    Console.WriteLine($"Migrated (method {method})");
    Console.WriteLine(
        $"  kvmclock {result.OldClockNanoseconds} -> {result.NewClockNanoseconds} ns, residual {result.ClockResidualNanoseconds} ns, bound {result.ErrorBoundNanoseconds:0} ns");
    foreach (var vcpu in result.Vcpus)
    {
        Console.WriteLine(
            $"  vCPU {vcpu.VcpuId}: TSC offset {vcpu.OldOffsetTicks} -> {vcpu.NewOffsetTicks}, residual {vcpu.ResidualTicks} ticks, {vcpu.ResidualNanoseconds:0.0} ns");
        confirmed &= Confirm(vcpu.VcpuId);
    }
}

Console.WriteLine();
Console.WriteLine(confirmed ? "Migrated, and confirmed by the guests." : "A guest reads a TSC that is not the one of the source.");
return confirmed ? 0 : 1;

// The guest's own word: what the destination's guest reads has to lie between two readings of the source's.
bool Confirm(int vcpuId)
{
    var first = source.ReadGuestTsc(vcpuId).GuestTsc;
    var between = destination.ReadGuestTsc(vcpuId).GuestTsc;
    var last = source.ReadGuestTsc(vcpuId).GuestTsc;
    var holds = TscArithmetic.Distance(first, between) >= 0 && TscArithmetic.Distance(between, last) >= 0;
    Console.WriteLine($"    the source's guest reads {first}, the destination's {between}, the source's {last}: {(holds ? "in between" : "NOT in between")}");
    return holds;
}
