namespace KvmTsc.Torture;

/// <summary>What the command line says.</summary>
internal sealed record Options(int? Count, string? Only, bool StandIn)
{
    public static Options Parse(string[] arguments)
    {
        var options = new Options(null, null, false);
        for (var i = 0; i < arguments.Length; i++)
        {
            if (arguments[i] == "--stand-in")
            {
                options = options with { StandIn = true };
                continue;
            }

            if (i + 1 == arguments.Length)
                throw new ArgumentException($"{arguments[i]} needs a value.");
            var value = arguments[i + 1];
            options = arguments[i++] switch
            {
                "--count" => options with { Count = int.Parse(value) },
                "--only" => options with { Only = value },
                _ => throw new ArgumentException($"Unknown option {arguments[i - 1]}."),
            };
        }

        return options;
    }

    /// <summary>A program of tests/Torture/build, which are beside this one.</summary>
    public static string Program(string name) => Path.Combine(AppContext.BaseDirectory, name);
}
