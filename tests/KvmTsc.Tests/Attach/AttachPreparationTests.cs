using System.Diagnostics;
using KvmTsc.Execution.Attach;
using KvmTsc.Processes;
using KvmTsc.Tests.Discovery;

namespace KvmTsc.Tests.Attach;

/// <summary>What is found out about a process before anything in it is stopped.</summary>
public sealed class AttachPreparationTests
{
    [Fact]
    public async Task A_process_that_ends_meanwhile_is_gone_whatever_was_just_looked_at()
    {
        const int Times = 100, MostMilliseconds = 10;
        for (var i = 0; i < Times; i++)
        {
            using var process = Process.Start(new ProcessStartInfo("cat") { RedirectStandardInput = true, RedirectStandardOutput = true })!;
            Until.True(() => SystemCall.Read(process.Id, process.Id)?.Number, number => number == SystemCall.ReadFile); // it has begun, and has its libraries
            var target = new AttachTarget(
                process.Id, AttachPreparation.StartTimeOf(process.Id)!.Value, "ending", -1, new Dictionary<int, IReadOnlyList<int>> { [0] = [-1] }, null);
            var killed = Task.Run(() =>
            {
                Thread.Sleep(Random.Shared.Next(MostMilliseconds));
                process.Kill();
            }, TestContext.Current.CancellationToken);
            var ended = RefusalOf(target);
            Assert.True(ended.ErrorId == KvmErrorId.ProcessGone, ended.Message);
            await killed;
            process.WaitForExit();
        }
    }

    private static KvmException RefusalOf(AttachTarget target)
    {
        while (true)
        {
            try
            {
                using var preparation = AttachPreparation.Of(target);
            }
            catch (KvmException exception)
            {
                return exception;
            }
        }
    }
}
