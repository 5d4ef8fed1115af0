using System.Management.Automation;
using KvmTsc.Migration;
using KvmTsc.PowerShell.Binding;
using KvmTsc.States;

namespace KvmTsc.PowerShell.Commands;

/// <summary>Writes states to files, one each.</summary>
[Cmdlet(VerbsData.Export, "KvmTscState", DefaultParameterSetName = ByPath, SupportsShouldProcess = true)]
[OutputType(typeof(FileInfo))]
public sealed class ExportKvmTscStateCommand : KvmCommand
{
    private const string ByPath = "Path";
    private const string ByLiteralPath = "LiteralPath";

    private readonly Dictionary<string, string?> _taken = [];

    /// <summary>The file; or a directory, in which each state gets a file that is named after its VM.</summary>
    [Parameter(Mandatory = true, Position = 0, ParameterSetName = ByPath)]
    [ValidateNotNullOrEmpty]
    [SupportsWildcards]
    public string Path { get; set; } = "";

    /// <summary>The same, taken as it is.</summary>
    [Parameter(Mandatory = true, ParameterSetName = ByLiteralPath)]
    [ValidateNotNullOrEmpty]
    [Alias("PSPath", "LP")]
    public string LiteralPath { get; set; } = "";

    /// <summary>The state, of Save-KvmTscState.</summary>
    [Parameter(Mandatory = true, Position = 1, ValueFromPipeline = true)]
    [FromProperties(typeof(KvmTscState))]
    public KvmTscState State { get; set; } = null!;

    /// <summary>Replaces files that are there.</summary>
    [Parameter]
    public SwitchParameter Force { get; set; }

    /// <summary>Writes the files that were made.</summary>
    [Parameter]
    public SwitchParameter PassThru { get; set; }

    private string Given => ParameterSetName == ByPath ? Path : LiteralPath;

    /// <inheritdoc/>
    protected override void ProcessRecord() => For(Given, () =>
    {
        var file = FileOf(State);
        For(file, () => Write(file));
    });

    private void Write(string file)
    {
        if (!_taken.TryAdd(file, State.VMName))
            throw Taken(file);
        StateFile.Refuse(file, State, Force);
        if (!ShouldProcess(file, $"{(File.Exists(file) ? "Replace the file by" : "Write")} the TSC state of {State.VMName}"))
            return;
        StateFile.Write(file, State, Force);
        if (PassThru)
            WriteObject(InvokeProvider.Item.Get([$@"Microsoft.PowerShell.Core\FileSystem::{file}"], force: true, literalPath: true), enumerateCollection: true);
    }

    private string FileOf(KvmTscState state)
    {
        var paths = new FilePaths(SessionState.Path);
        var path = ParameterSetName == ByPath ? paths.Single(Given) : paths.Literal(Given);
        return Directory.Exists(path) || System.IO.Path.EndsInDirectorySeparator(Given) ? System.IO.Path.Combine(path, NameOf(state)) : path;
    }

    /// <summary>A name that stays in its directory, and is seen there, whatever the VM is called.</summary>
    private static string NameOf(KvmTscState state)
    {
        if (string.IsNullOrEmpty(state.VMName))
            throw new KvmException(KvmErrorId.InvalidValue, "The state does not say which VM it is of.", "Give the name of a file.");
        var name = string.Concat(state.VMName.Select(character => character == '/' || char.IsControl(character) ? '_' : character));
        return $"{(name[0] == '.' ? "_" : "")}{name}.json";
    }

    private KvmException Taken(string file) => new(
        KvmErrorId.FileExists,
        $"{file} is for the state of {_taken[file]}, and a file holds one: the state of {State.VMName} is not written.",
        "Give a directory, in which each state gets a file named after its VM.");
}
