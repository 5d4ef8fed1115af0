using System.Diagnostics;

namespace KvmTsc.Torture;

/// <summary>This program, as another process.</summary>
internal static class Self
{
    /// <summary>Starts it, below other programs such as setpriv if some are given.</summary>
    public static Process Start(IReadOnlyList<string> below, params string[] arguments) => Process.Start(Describe(below, arguments))!;

    /// <summary>Starts it such that it can fork: no thread collects beside the others.</summary>
    public static Process StartForking(params string[] arguments)
    {
        var start = Describe([], arguments);
        start.Environment["DOTNET_gcConcurrent"] = "0";
        return Process.Start(start)!;
    }

    private static ProcessStartInfo Describe(IReadOnlyList<string> below, string[] arguments)
    {
        string[] line = [.. below, Environment.ProcessPath!, .. arguments];
        return new ProcessStartInfo(line[0], line[1..])
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
        };
    }
}
