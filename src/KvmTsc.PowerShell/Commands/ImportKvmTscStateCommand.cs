using System.Management.Automation;
using KvmTsc.Migration;
using KvmTsc.States;

namespace KvmTsc.PowerShell.Commands;

/// <summary>Reads states from files.</summary>
[Cmdlet(VerbsData.Import, "KvmTscState", DefaultParameterSetName = ByPath)]
[OutputType(typeof(KvmTscState))]
public sealed class ImportKvmTscStateCommand : KvmCommand
{
    private const string ByPath = "Path";
    private const string ByLiteralPath = "LiteralPath";

    /// <summary>Files of Export-KvmTscState, with wildcards.</summary>
    [Parameter(Mandatory = true, Position = 0, ValueFromPipeline = true, ParameterSetName = ByPath)]
    [ValidateNotNullOrEmpty]
    [SupportsWildcards]
    public string[] Path { get; set; } = [];

    /// <summary>Files by names that are taken as they are.</summary>
    [Parameter(Mandatory = true, ValueFromPipelineByPropertyName = true, ParameterSetName = ByLiteralPath)]
    [ValidateNotNullOrEmpty]
    [Alias("PSPath", "LP", "FullName")]
    public string[] LiteralPath { get; set; } = [];

    /// <inheritdoc/>
    protected override void ProcessRecord()
    {
        var paths = new FilePaths(SessionState.Path);
        if (ParameterSetName == ByLiteralPath)
            Write(LiteralPath, path => [paths.Literal(path)]);
        else
            Write(Path, path => paths.Matching(path) is { Count: > 0 } files ? files : throw FilePaths.NothingFits(path));
    }

    private void Write(IEnumerable<string> paths, Func<string, IEnumerable<string>> select)
    {
        foreach (var path in paths)
        {
            For(path, () =>
            {
                foreach (var file in select(path))
                    For(file, () => WriteObject(StateFile.Read(file)));
            });
        }
    }
}
