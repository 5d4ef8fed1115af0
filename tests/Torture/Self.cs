using System.Diagnostics;

namespace KvmTsc.Torture;

/// <summary>This program, as another process.</summary>
internal static class Self
{
    /// <summary>Starts it, below other programs such as setpriv if some are given.</summary>
    public static Process Start(IReadOnlyList<string> below, params string[] arguments) => Process.Start(Describe(below, arguments))!;

    /// <summary>Starts it such that it can fork: .NET compiles and collects on no thread of its own, and shares no memory with a fork.</summary>
    public static Process StartForking(params string[] arguments)
    {
        var start = Describe([], arguments);
        start.Environment["DOTNET_TieredCompilation"] = "0";
        start.Environment["DOTNET_gcConcurrent"] = "0";
        start.Environment["DOTNET_EnableWriteXorExecute"] = "0";
        return Process.Start(start)!;
    }

    private static ProcessStartInfo Describe(IReadOnlyList<string> below, string[] arguments)
    {
        string[] self = Path.GetFileNameWithoutExtension(Environment.ProcessPath) == "dotnet"
            ? [Environment.ProcessPath!, typeof(Self).Assembly.Location]
            : [Environment.ProcessPath!];
        string[] line = [.. below, .. self, .. arguments];
        var start = new ProcessStartInfo(line[0], line[1..])
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
        };
        start.Environment["DOTNET_EnableDiagnostics"] = "0";
        return start;
    }
}
