using System.Management.Automation;

namespace KvmTsc.PowerShell.Commands;

/// <summary>Turns the paths that PowerShell knows, relative, on drives and with wildcards, into those of files.</summary>
internal sealed class FilePaths(PathIntrinsics paths)
{
    private const string FileSystem = "FileSystem";

    /// <summary>What a path names as it is written, be it there or not.</summary>
    public string Literal(string path) => Resolve(path, () =>
    {
        var file = paths.GetUnresolvedProviderPathFromPSPath(path, out var provider, out _);
        return Path.TrimEndingDirectorySeparator(Path.GetFullPath(InFileSystem(path, file, provider)));
    });

    /// <summary>What fits a path with wildcards; what a path without them names, be it there or not.</summary>
    public IReadOnlyList<string> Matching(string path) => WildcardPattern.ContainsWildcardCharacters(path)
        ? Resolve(path, () =>
        {
            var files = paths.GetResolvedProviderPathFromPSPath(path, out var provider);
            return files.Select(file => InFileSystem(path, file, provider)).ToArray();
        })
        : [Literal(path)];

    /// <summary>The same where one file is wanted.</summary>
    public string Single(string path) => Matching(path) switch
    {
        [var file] => file,
        [] => throw NothingFits(path),
        var files => throw Unsupported($"{path} fits {files.Count} files, and one is wanted."),
    };

    /// <summary>A pattern that fits no file.</summary>
    public static KvmException NothingFits(string path) => Unsupported($"Nothing fits {path}.");

    private static string InFileSystem(string path, string file, ProviderInfo provider) => provider.Name == FileSystem
        ? file
        : throw Unsupported($"{path} is a path of the provider {provider.Name}, and names no file.");

    private static T Resolve<T>(string path, Func<T> resolve)
    {
        try
        {
            return resolve();
        }
        catch (Exception exception) when (exception is ArgumentException or RuntimeException and not PipelineStoppedException)
        {
            throw Unsupported($"{path} names no file: {exception.Message.TrimEnd('.')}.", exception);
        }
    }

    private static KvmException Unsupported(string message, Exception? exception = null) => new(
        KvmErrorId.PathUnsupported, message, "Give the path of a file. One with brackets, * or ? in its name is given with -LiteralPath.", exception);
}
