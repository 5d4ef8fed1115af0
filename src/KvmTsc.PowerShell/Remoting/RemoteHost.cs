using System.Collections;
using System.Management.Automation;
using System.Management.Automation.Remoting;
using System.Management.Automation.Runspaces;
using KvmTsc.Migration.Preflight;

namespace KvmTsc.PowerShell.Remoting;

/// <summary>KvmTsc on another host, by a PowerShell session. One command runs at a time.</summary>
internal sealed class RemoteHost
{
    /// <summary>A session passes objects on only one level deep, and a state has three: so parameters go as a text.</summary>
    private const string Script = "param($Cmdlet, $Text) $parameters = [Management.Automation.PSSerializer]::Deserialize($Text); & $Cmdlet @parameters";

    private const int Depth = 5;

    private static readonly TimeSpan s_pause = TimeSpan.FromMilliseconds(100);

    private readonly PSSession _session;

    public RemoteHost(PSSession session) => _session = session;

    public string Name => _session.ComputerName;

    /// <summary>Runs a cmdlet there.</summary>
    /// <param name="cmdlet">The cmdlet.</param>
    /// <param name="parameters">Its parameters.</param>
    /// <param name="doing">What an error says that this was about, as "saving the clocks of web01".</param>
    /// <param name="meanwhile">Told now and then of the progress that the cmdlet shows.</param>
    /// <param name="cancellationToken">Stops the cmdlet.</param>
    /// <returns>The one object that it wrote.</returns>
    /// <exception cref="KvmException">The cmdlet's own error, or one of the session.</exception>
    public PSObject Run(string cmdlet, Hashtable parameters, string doing, Action<ProgressRecord> meanwhile, CancellationToken cancellationToken) =>
        Use(
            doing,
            shell =>
            {
                shell.AddScript(Script).AddArgument(cmdlet).AddArgument(PSSerializer.Serialize(parameters, Depth));
                return Result(shell, Invoke(shell, meanwhile, cancellationToken), doing);
            },
            cancellationToken);

    /// <summary>
    /// Asks the time there, some times in a row, and takes the answer that came fastest: it was given between question and answer.
    /// </summary>
    /// <returns>How CLOCK_REALTIME there compares with this host's.</returns>
    /// <exception cref="KvmException">The session was lost.</exception>
    public KvmClockComparison CompareClock(CancellationToken cancellationToken)
    {
        const string Doing = "asking the time; nothing was changed";
        return Use(
            Doing,
            shell =>
            {
                using var stopping = cancellationToken.Register(shell.Stop);
                return AskTime(shell) ?? throw Lost(Doing, null);
            },
            cancellationToken);
    }

    private static KvmClockComparison? AskTime(System.Management.Automation.PowerShell shell)
    {
        const int Questions = 8; // the first of which takes long
        using var questions = new PSDataCollection<int>();
        using var answers = new PSDataCollection<long>();
        var running = shell.AddScript("process { [datetime]::UtcNow.Ticks }").BeginInvoke(questions, answers);
        using var answer = answers.GetEnumerator();
        KvmClockComparison? best = null;
        for (var question = 0; question < Questions; question++)
        {
            var asked = DateTime.UtcNow.Ticks;
            questions.Add(question);
            if (!answer.MoveNext()) // waits; in vain when the session is lost
                break;
            var comparison = KvmClockComparison.OfAnswer(asked, answer.Current, DateTime.UtcNow.Ticks);
            if (best is null || comparison.UncertaintyNanoseconds < best.UncertaintyNanoseconds)
                best = comparison;
        }

        questions.Complete();
        shell.EndInvoke(running);
        return best;
    }

    /// <summary>Does something in the session when no other command runs there.</summary>
    private T Use<T>(string doing, Func<System.Management.Automation.PowerShell, T> use, CancellationToken cancellationToken)
    {
        lock (_session)
        {
            using var shell = System.Management.Automation.PowerShell.Create();
            shell.Runspace = _session.Runspace;
            try
            {
                return use(shell);
            }
            catch (PipelineStoppedException)
            {
                throw new OperationCanceledException(cancellationToken);
            }
            catch (Exception exception) when (exception is PSRemotingTransportException or PSRemotingDataStructureException
                or InvalidRunspaceStateException or InvalidRunspacePoolStateException)
            {
                throw Lost(doing, exception);
            }
            catch (RuntimeException exception)
            {
                throw Failed(exception.ErrorRecord, exception);
            }
        }
    }

    private static PSDataCollection<PSObject> Invoke(
        System.Management.Automation.PowerShell shell, Action<ProgressRecord> meanwhile, CancellationToken cancellationToken)
    {
        using var input = new PSDataCollection<PSObject>();
        input.Complete();
        var output = new PSDataCollection<PSObject>();
        var running = shell.BeginInvoke(input, output);
        while (!running.AsyncWaitHandle.WaitOne(s_pause))
        {
            if (cancellationToken.IsCancellationRequested)
                shell.Stop();
            foreach (var progress in shell.Streams.Progress.ReadAll())
                meanwhile(progress);
        }

        shell.EndInvoke(running);
        return output;
    }

    private PSObject Result(System.Management.Automation.PowerShell shell, PSDataCollection<PSObject> output, string doing)
    {
        if (shell.Streams.Error.FirstOrDefault() is { } error)
            throw Failed(error, error.Exception);
        if (_session.Runspace.RunspaceStateInfo.State != RunspaceState.Opened)
            throw Lost(doing, _session.Runspace.RunspaceStateInfo.Reason);
        return output.FirstOrDefault() ?? throw Lost(doing, null);
    }

    /// <summary>The error of the other side's cmdlet, as if it had been raised here.</summary>
    private KvmException Failed(ErrorRecord error, Exception exception)
    {
        var id = error.FullyQualifiedErrorId.Split(',')[0];
        if (id is "CommandNotFoundException" or "CouldNotAutoloadMatchingModule")
        {
            return new KvmException(
                KvmErrorId.RemoteModuleMissing,
                $"{Name} has no KvmTsc: {error.Exception.Message}",
                "Install the module there, or import it in the session: Invoke-Command $session { Import-Module PATH/KvmTsc.psd1 }.",
                exception);
        }

        return new KvmException(
            Enum.TryParse<KvmErrorId>(id, out var known) ? known : KvmErrorId.RemoteFailed,
            $"{Name}: {error.ErrorDetails?.Message ?? error.Exception.Message}",
            string.IsNullOrEmpty(error.ErrorDetails?.RecommendedAction) ? "Try the command in the session itself (Enter-PSSession)." : error.ErrorDetails.RecommendedAction,
            exception)
        {
            ComputerName = Name,
        };
    }

    private KvmException Lost(string doing, Exception? exception) => new(
        KvmErrorId.SessionLost,
        $"The session to {Name} was lost while {doing}{(exception is null ? "" : $" ({exception.Message.TrimEnd('.')})")}.",
        "Open a new session and look how that VM's clocks stand (Get-KvmClock, Get-KvmVcpuTscOffset) before trying again.",
        exception);
}
