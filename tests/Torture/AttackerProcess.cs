using System.Diagnostics;
using System.Globalization;

namespace KvmTsc.Torture;

/// <summary>An attacker, seen from outside.</summary>
internal sealed class AttackerProcess : IDisposable
{
    private readonly string _notes = Path.GetTempFileName();
    private readonly Process _process;

    public AttackerProcess(Place place)
    {
        _process = Self.StartForking("attack");
        Tell($"{place}");
        Tell(_notes);
        Expect("ready");
    }

    /// <summary>Has it attach until it is killed.</summary>
    /// <returns>What it was at.</returns>
    public KillPhase Attack(string where)
    {
        const int KilledStatus = 9;
        Tell(where);
        Expect(KilledStatus.ToString(CultureInfo.InvariantCulture));
        return (KillPhase)File.ReadAllBytes(_notes)[0];
    }

    public void Dispose()
    {
        if (!_process.HasExited)
            _process.Kill(entireProcessTree: true);
        _process.WaitForExit();
        _process.Dispose();
        File.Delete(_notes);
    }

    private void Tell(string line)
    {
        _process.StandardInput.WriteLine(line);
        _process.StandardInput.Flush();
    }

    private void Expect(string expected)
    {
        var line = _process.StandardOutput.ReadLineAsync();
        if (!Patience.Wait(line))
            throw new InvalidOperationException("The attacker hangs.");
        if (line.Result != expected)
            throw new InvalidOperationException($"The attacker said {line.Result ?? "nothing"} instead of {expected}.");
    }
}
