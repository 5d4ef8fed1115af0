using System.Diagnostics;

namespace KvmTsc.Torture;

/// <summary>How much held and how much did not.</summary>
internal sealed class Counts
{
    private const int MostShown = 40;
    private readonly Stopwatch _time = Stopwatch.StartNew();
    private int _shown;

    public int Passed { get; private set; }

    public int Failed { get; private set; }

    public void Pass(int count = 1) => Passed += count;

    public void Fail(string what, int count = 1)
    {
        Failed += count;
        if (_shown++ < MostShown)
            Say($"FAILED: {what}");
    }

    public void Expect(bool holds, string what)
    {
        if (holds)
            Pass();
        else
            Fail(what);
    }

    public void Say(string what) => Console.WriteLine($"[{_time.Elapsed.TotalSeconds,7:0.0} s] {what}");

    /// <summary>Prints the last line, and gives the exit status.</summary>
    public int Finish()
    {
        Console.WriteLine($"{Passed} passed, {Failed} failed");
        return Failed == 0 && Passed > 0 ? 0 : 1;
    }
}
