namespace KvmTsc.Torture;

/// <summary>What the command line says.</summary>
internal sealed record Options(int? Count, string Programs, string? Only, bool StandIn)
{
    public static Options Parse(string[] arguments)
    {
        // out/artifacts/bin/KvmTsc.Torture/CONFIGURATION is where this program is.
        var options = new Options(null, Path.GetFullPath(Path.Combine(AppContext.BaseDirectory, "../../../../torture")), null, false);
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
                "--programs" => options with { Programs = Path.GetFullPath(value) },
                "--only" => options with { Only = value },
                _ => throw new ArgumentException($"Unknown option {arguments[i - 1]}."),
            };
        }

        return options;
    }

    public string Program(string name) => Path.Combine(Programs, name);
}
