using System.Management.Automation;
using KvmTsc.Migration;
using KvmTsc.PowerShell.Binding;
using KvmTsc.PowerShell.Wording;

namespace KvmTsc.PowerShell.Commands;

/// <summary>A command that gives a VM the clocks of a state, now or when the VM is resumed.</summary>
public abstract class RestoreCommand : KvmCommand
{
    /// <summary>How offsets are found: exactly where possible, or as documented.</summary>
    [Parameter]
    public TscMethod Method { get; set; }

    /// <summary>What becomes of the time during which the guest stood still: it counts for both of its clocks, or for neither.</summary>
    [Parameter]
    public TscDowntime Downtime { get; set; }

    /// <summary>The longest downtime that is restored: a number of seconds, or a TimeSpan.</summary>
    [Parameter]
    [Seconds]
    public TimeSpan? MaximumDowntime { get; set; }

    /// <summary>
    /// Waits until the VM is resumed, and restores between the VMM's own restoring and the guest's first instruction. It can be started
    /// before the incoming migration is complete.
    /// </summary>
    [Parameter]
    public SwitchParameter AtResume { get; set; }

    /// <summary>How long to wait for the VM to be resumed, in seconds.</summary>
    [Parameter]
    [ValidateRange(1, int.MaxValue / 1000)]
    public int TimeoutSeconds { get; set; } = 300;

    /// <summary>Takes unequal offsets, clocks that go backwards, and frequencies that KVM can only chase.</summary>
    [Parameter]
    public SwitchParameter Force { get; set; }

    private protected TimeSpan Timeout => TimeSpan.FromSeconds(TimeoutSeconds);

    /// <summary>How it is to be restored.</summary>
    private protected TscRestoreOptions Options => new(Method, Force, Downtime, MaximumDowntime);

    /// <summary>The question that is asked before: what changes, and when.</summary>
    protected string Question(TscRestore restore, string? source) => AtResume
        ? $"Restore the clocks of {source} when the VM is resumed: hold its vCPUs at their first entry into the guest, set kvmclock and TSC offsets, let them go"
        : Questions.Restore(restore.Preview(Cancellation), source);

    /// <summary>Restores, and shows the waiting.</summary>
    protected KvmTscMigrationResult Restore(TscRestore restore, string vmName, Action<ProgressRecord> show)
    {
        if (!AtResume)
            return restore.Run(Cancellation);
        return ShowWaiting($"Waiting for {vmName} to be resumed", "held", show, waiting => restore.RunAtResume(Timeout, waiting, Cancellation));
    }

    /// <summary>Waits for the vCPUs of a VM, and shows it.</summary>
    private protected T ShowWaiting<T>(string activity, string state, Action<ProgressRecord> show, Func<Action<TimeSpan, int>, T> wait)
    {
        var progress = new ProgressRecord(0, activity, "Watching its vCPUs");
        try
        {
            return wait((waited, count) =>
            {
                progress.SecondsRemaining = Math.Max(0, (int)(Timeout - waited).TotalSeconds);
                progress.PercentComplete = Math.Min(100, (int)(100 * waited / Timeout));
                progress.StatusDescription = $"{waited:hh\\:mm\\:ss}, {count} vCPU(s) {state}";
                show(progress);
            });
        }
        finally
        {
            progress.RecordType = ProgressRecordType.Completed;
            show(progress);
        }
    }
}
