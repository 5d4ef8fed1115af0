using KvmTsc.Processes;
using System.Diagnostics;

namespace KvmTsc.Execution.Attach;

/// <summary>
/// Works once in a process of our own before the first real one: what .NET compiles on first use is compiled then, and not while a VM
/// stands still.
/// </summary>
internal static class AttachRehearsal
{
    private static readonly Lock s_lock = new();
    private static bool s_done;

    /// <summary>Rehearses, once in the life of this process. If it cannot be done, the first stop is longer, and nothing else.</summary>
    public static void Once()
    {
        lock (s_lock)
        {
            if (s_done)
                return;
            s_done = true;
            try
            {
                Rehearse();
            }
            catch (Exception exception) when (exception is KvmException or System.ComponentModel.Win32Exception or IOException)
            {
                Debug.WriteLine($"No rehearsal: {exception.Message}");
            }
        }
    }

    private static void Rehearse()
    {
        const string WaitsForInput = "cat";
        using var process = Process.Start(new ProcessStartInfo(WaitsForInput) { RedirectStandardInput = true, RedirectStandardOutput = true })!;
        try
        {
            var startTime = AttachPreparation.StartTimeOf(process.Id) ?? 0;
            var target = new AttachTarget(process.Id, startTime, "rehearsal", -1, new Dictionary<int, IReadOnlyList<int>> { [0] = [-1] }, null);
            var executor = new AttachedExecutor(target);
            AwaitRead(process.Id);
            for (var i = 0; i < 3; i++)
            {
                using var preparation = AttachPreparation.Of(target);
                var first = Batch();
                using var stop = AttachedStop.TryStop(executor, preparation, first);
                stop?.Run(first);
                stop?.Run(Batch());
                SeccompJudge.Rehearse(preparation);
            }
        }
        finally
        {
            process.StandardInput.Close();
            process.WaitForExit();
        }
    }

    /// <summary>A batch that fails at its ioctl and undoes, all on a descriptor that does not exist.</summary>
    private static IoctlBatch Batch()
    {
        var batch = new IoctlBatch();
        var value = batch.Reserve<ulong>();
        batch.Add(new BatchStep(BatchStepKind.ExpectEqual, 0, 0, value.Offset, ArgumentIsSlot: true, value.Offset));
        batch.Add(new BatchStep(BatchStepKind.Ioctl, 0, 0, value.Offset, ArgumentIsSlot: true));
        batch.AddUndo(0, new BatchStep(BatchStepKind.Ioctl, null, 0, 0, ArgumentIsSlot: false));
        return batch;
    }

    /// <summary>Lets the process get past its start.</summary>
    private static void AwaitRead(int processId)
    {
        var patience = Stopwatch.StartNew();
        while (patience.ElapsedMilliseconds < 1000 && SystemCall.Read(processId, processId)?.Number != SystemCall.ReadFile)
            Thread.Sleep(1);
    }
}
