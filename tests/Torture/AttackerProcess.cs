using System.Diagnostics;

namespace KvmTsc.Torture;

/// <summary>An attacker, seen from outside.</summary>
internal sealed class AttackerProcess : IDisposable
{
    private const int KilledStatus = 128 + 9;
    private readonly string _notes = Path.GetTempFileName();
    private readonly Process _process;

    private AttackerProcess(Place place)
    {
        File.WriteAllBytes(_notes, new byte[sizeof(int)]);
        _process = Self.Start([], "attack");
        _process.StandardInput.WriteLine(place);
        _process.StandardInput.WriteLine(_notes);
        _process.StandardInput.Flush();
    }

    /// <summary>Starts one. It gets ready by itself.</summary>
    public static AttackerProcess Start(Place place) => new(place);

    /// <summary>Has it attach until it is killed.</summary>
    /// <returns>What it was at, or null with an explanation.</returns>
    public KillPhase? Attack(string where, out string explanation)
    {
        explanation = "";
        var ready = _process.StandardOutput.ReadLineAsync();
        if (!Patience.Wait(ready) || ready.Result != "ready")
        {
            explanation = "the attacker did not start";
            return null;
        }

        _process.StandardInput.WriteLine(where);
        _process.StandardInput.Flush();
        if (!Patience.Wait(_process))
        {
            explanation = "the attacker hangs";
            return null;
        }

        if (_process.ExitCode != KilledStatus)
        {
            explanation = $"the attacker ended with exit status {_process.ExitCode}";
            return null;
        }

        return (KillPhase)BitConverter.ToInt32(File.ReadAllBytes(_notes));
    }

    public void Dispose()
    {
        if (!_process.HasExited)
            _process.Kill();
        _process.WaitForExit();
        _process.Dispose();
        File.Delete(_notes);
    }
}
