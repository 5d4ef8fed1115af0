using System.Diagnostics;

namespace KvmTsc.Torture;

/// <summary>An attacker, seen from outside.</summary>
internal sealed class AttackerProcess : IDisposable
{
    private const string Ready = "ready";

    // Of waitpid(2).
    private const string CameToItsEnd = "0";
    private const string Killed = "9";
    private const string DiedByAbort = "6";
    private const string DiedBySegmentation = "11";

    private readonly string _notes = Path.GetTempFileName();
    private readonly Process _process;

    public AttackerProcess(Place place)
    {
        _process = Self.StartForking("attack");
        Tell($"{place}");
        Tell(_notes);
        if (Hear() is not Ready and var instead)
            throw new InvalidOperationException($"The attacker said {instead} instead of {Ready}.");
    }

    /// <summary>Has it attach until it is killed.</summary>
    /// <returns>What it was at.</returns>
    public KillPhase Attack(string where)
    {
        Tell(where);
        return PhaseAtDeath(Hear());
    }

    /// <summary>Has it attach until it has done so many of its acts, and is killed.</summary>
    /// <param name="acts">How many.</param>
    /// <param name="resume">Resumes the target, which it is to wait for; null if it is not to wait.</param>
    /// <returns>What it was at, and did last; null if it came to its end before.</returns>
    public (KillPhase Phase, string LastAct)? AttackWithActs(int acts, Action? resume)
    {
        Tell(Attacker.AfterActs(acts, isAtResume: resume is not null));
        var line = Hear();
        resume?.Invoke();
        if (line == Watcher.Watching)
            line = Hear();
        return line.Split(' ', 2) switch
        {
            [CameToItsEnd, _] => null,
            [var status, var act] => (PhaseAtDeath(status), act),
            _ => (PhaseAtDeath(line), ""),
        };
    }

    public void Dispose()
    {
        if (!_process.HasExited)
            _process.Kill(entireProcessTree: true);
        _process.WaitForExit();
        _process.Dispose();
        File.Delete(_notes);
    }

    /// <summary>
    /// Now and then one dies by itself: a thread of the target that is still ending is waited for on a thread of its own (EndedThreads), and .NET cannot start
    /// one in a fork. It is dead as well then, and its target to be as unharmed.
    /// </summary>
    private KillPhase PhaseAtDeath(string status)
    {
        if (status is DiedByAbort or DiedBySegmentation)
            Console.Error.WriteLine($"    an attacker died by itself, status {status}");
        else if (status != Killed)
            throw new InvalidOperationException($"The attacker ended with status {status} instead of {Killed}.");
        return (KillPhase)File.ReadAllBytes(_notes)[0];
    }

    private void Tell(string line)
    {
        _process.StandardInput.WriteLine(line);
        _process.StandardInput.Flush();
    }

    private string Hear()
    {
        var line = _process.StandardOutput.ReadLineAsync();
        return Patience.Wait(line) ? line.Result ?? "nothing" : throw new InvalidOperationException("The attacker hangs.");
    }
}
