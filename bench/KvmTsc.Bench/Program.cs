// What of the benchmark is better said in C#: fleet PAIRS ROUNDS, chart JSON SVG, and course JSON SVG.
using System.Globalization;
using KvmTsc.Bench;

switch (args)
{
    case ["fleet", var pairs, var rounds]:
        foreach (var milliseconds in Fleet.Measure(Number(pairs), Number(rounds)))
            Console.WriteLine(milliseconds.ToString("0.000", CultureInfo.InvariantCulture));
        return 0;
    case ["chart", var table, var picture]:
        Chart.Draw(table, picture);
        return 0;
    case ["course", var courses, var picture]:
        Course.Draw(courses, picture);
        return 0;
    default:
        Console.Error.WriteLine("usage: KvmTsc.Bench fleet PAIRS ROUNDS | chart JSON SVG | course JSON SVG");
        return 2;
}

static int Number(string text) => int.Parse(text, CultureInfo.InvariantCulture);
