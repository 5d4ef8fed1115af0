using System.Management.Automation;
using KvmTsc.PowerShell.Errors;

namespace KvmTsc.PowerShell.Commands;

/// <summary>What every command has: Ctrl+C, and errors that say what to do.</summary>
public abstract class KvmCommand : PSCmdlet, IDisposable
{
    private readonly CancellationTokenSource _stopping = new();

    /// <summary>Finds the VMs that the parameters name.</summary>
    private protected Targets Targets { get; } = new();

    /// <summary>Cancelled by Ctrl+C.</summary>
    protected CancellationToken Cancellation => _stopping.Token;

    /// <inheritdoc/>
    public void Dispose()
    {
        Dispose(disposing: true);
        GC.SuppressFinalize(this);
    }

    /// <summary>Releases what the command holds.</summary>
    protected virtual void Dispose(bool disposing)
    {
        if (disposing)
            _stopping.Dispose();
    }

    /// <inheritdoc/>
    protected override void StopProcessing() => _stopping.Cancel();

    /// <summary>Ctrl+C ends the pipeline; what still runs has to be waited for all the same, so that nothing stays held.</summary>
    protected void ShowProgress(ProgressRecord progress)
    {
        if (!Cancellation.IsCancellationRequested)
            WriteProgress(progress);
    }

    /// <summary>
    /// Does something for one target. What goes wrong with it is an error that lets the others go on, unless none of them can fare better.
    /// </summary>
    protected void For(object? target, Action action)
    {
        try
        {
            action();
        }
        catch (KvmException exception) when (ErrorRecords.EndsEverything(exception))
        {
            ThrowTerminatingError(ErrorRecords.From(exception, target));
        }
        catch (KvmException exception)
        {
            WriteError(ErrorRecords.From(exception, target));
        }
        catch (OperationCanceledException) when (Cancellation.IsCancellationRequested)
        {
            throw new PipelineStoppedException();
        }
    }
}
