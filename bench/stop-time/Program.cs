// How long a VMM with many vCPUs stands still while its clock, all its offsets and all its frequencies are read, through KvmTsc and with one
// ptrace stop per ioctl; and how long the ioctls alone take, as a VMM with as many vCPUs issues them itself. All in one run, in turns. See run.sh.
using System.Diagnostics;
using System.Globalization;
using KvmTsc.Discovery;
using KvmTsc.Execution.Attach;
using KvmTsc.Machines;
using KvmTsc.Migration;

const int WarmUps = 40;
const int Runs = 40;

if (args is not [var id, var vmmProgram, var naiveProgram] || !int.TryParse(id, out var processId))
{
    Console.Error.WriteLine("usage: StopTime PID VMM NAIVE");
    return 2;
}

var machine = VMDiscovery.Of(processId).Single();
using var vmm = Process.Start(new ProcessStartInfo(vmmProgram, [$"{machine.VcpuIds.Count}"]) { RedirectStandardInput = true, RedirectStandardOutput = true })!;
vmm.StandardOutput.ReadLine();

// What .NET compiles on first use, or better after some, is compiled before: with one CPU it would be within the stops.
for (var i = 0; i < WarmUps; i++)
    _ = Attached(machine);
Thread.Sleep(TimeSpan.FromSeconds(1));

double[][] inside = new double[Runs][], attached = new double[Runs][], naive = new double[Runs][];
for (var i = 0; i < Runs; i++)
{
    inside[i] = AfterRest(Inside);
    attached[i] = AfterRest(() => Attached(machine));
    naive[i] = AfterRest(OneStopPerIoctl);
}

vmm.StandardInput.WriteLine("quit");
vmm.WaitForExit();

var alone = Median(inside, 0);
var beyond = Median(attached, 1);
Console.WriteLine($"{machine.Vmm} with {machine.VcpuIds.Count} vCPUs: clock, offsets and frequencies, {1 + (2 * machine.VcpuIds.Count)} ioctls. Microseconds, medians of {Runs}:");
Console.WriteLine($"{"",-28}{"stop",10}{"ioctls",10}{"release",10}{"total",10}");
Console.WriteLine($"{"inside a VMM",-28}{"",10}{alone,10:0}{"",10}{alone,10:0}");
Row("KvmTsc", attached);
Row("one ptrace stop per ioctl", naive);
var timesFaster = Median(naive, 3) / Median(attached, 3);
Console.WriteLine($"Beyond stopping and releasing, KvmTsc takes {beyond / alone:0.0} times what the ioctls take inside (at most 3 wanted); the fastest of each, {Fastest(attached, 1):0} and {Fastest(inside, 0):0} us, {Fastest(attached, 1) / Fastest(inside, 0):0.0} times.");
Console.WriteLine($"As a whole it is {timesFaster:0.0} times shorter than one stop per ioctl (at least 3 wanted).");
return beyond <= 3 * alone && timesFaster >= 3 ? 0 : 1;

// Threads that were let go go back into KVM_RUN, and until the last of them has, they compete for the CPU.
static double[] AfterRest(Func<double[]> measure)
{
    Thread.Sleep(TimeSpan.FromMilliseconds(200));
    return measure();
}

double[] Inside()
{
    vmm.StandardInput.WriteLine("inside");
    return [Number(vmm.StandardOutput.ReadLine()!)];
}

static double[] Attached(Machine machine)
{
    _ = KvmTscState.Save(machine, force: true, CancellationToken.None);
    var phases = ((AttachedExecutor)machine.Executor).LastPhases!;
    return [phases.Stopping, phases.Running, phases.Releasing, phases.Total];
}

double[] OneStopPerIoctl()
{
    using var process = Process.Start(new ProcessStartInfo(naiveProgram, [$"{processId}"]) { RedirectStandardOutput = true })!;
    var line = process.StandardOutput.ReadLine();
    process.WaitForExit();
    double[] phases = [.. (line ?? throw new InvalidOperationException($"{naiveProgram} failed, see above.")).Split(' ').Select(Number)];
    return [.. phases, phases.Sum()];
}

static void Row(string name, double[][] runs) =>
    Console.WriteLine($"{name,-28}{Median(runs, 0),10:0}{Median(runs, 1),10:0}{Median(runs, 2),10:0}{Median(runs, 3),10:0}");

static double Number(string text) => double.Parse(text, CultureInfo.InvariantCulture);

// What a noisy machine does not change.
static double Fastest(double[][] runs, int column) => runs.Min(run => run[column]);

static double Median(double[][] runs, int column)
{
    double[] sorted = [.. runs.Select(run => run[column]).Order()];
    return (sorted[(sorted.Length - 1) / 2] + sorted[sorted.Length / 2]) / 2;
}
