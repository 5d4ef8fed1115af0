using System.Diagnostics;
using System.Globalization;

namespace KvmTsc.Torture;

/// <summary>A worker, seen from outside.</summary>
internal sealed class WorkerProcess : IWork, IDisposable
{
    private readonly Process _process = Self.Start([], "work");

    public WorkerProcess(Place place)
    {
        _process.StandardInput.WriteLine(place);
        _process.StandardInput.Flush();
    }

    public IReadOnlyList<long> Read(out double stoppedMicroseconds)
    {
        var words = Ask(Worker.Read);
        stoppedMicroseconds = double.Parse(words[1], CultureInfo.InvariantCulture);
        return [.. words[2].Split(',').Select(word => long.Parse(word, CultureInfo.InvariantCulture))];
    }

    public double Write(long offset) => double.Parse(Ask(offset.ToString(CultureInfo.InvariantCulture))[1], CultureInfo.InvariantCulture);

    public void Dispose()
    {
        if (!_process.HasExited)
            _process.Kill();
        _process.WaitForExit();
        _process.Dispose();
    }

    private string[] Ask(string command)
    {
        _process.StandardInput.WriteLine(command);
        _process.StandardInput.Flush();
        var answer = _process.StandardOutput.ReadLineAsync();
        if (!Patience.Wait(answer) || answer.Result is not { } line)
            throw new InvalidOperationException("The process that attaches hangs, or has ended.");
        var words = line.Split(' ');
        return words[0] == Worker.Done ? words : throw new InvalidDataException(line);
    }
}
