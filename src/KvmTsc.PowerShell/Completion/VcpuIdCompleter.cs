using System.Collections;
using System.Globalization;
using System.Management.Automation;
using System.Management.Automation.Language;

namespace KvmTsc.PowerShell.Completion;

/// <summary>Completes the ids of vCPUs: those of the VMs named on the command line, else those of any VM.</summary>
public sealed class VcpuIdCompleter : IArgumentCompleter
{
    private static readonly string[] s_selectors = ["Name", "VM"];

    /// <inheritdoc/>
    public IEnumerable<CompletionResult> CompleteArgument(
        string commandName, string parameterName, string wordToComplete, CommandAst commandAst, IDictionary fakeBoundParameters)
    {
        var names = s_selectors
            .Select(parameter => fakeBoundParameters[parameter])
            .Where(value => value is not null)
            .SelectMany(value => LanguagePrimitives.GetEnumerable(value)?.Cast<object?>() ?? [value])
            .Select(value => PSObject.AsPSObject(value).Properties["VMName"]?.Value?.ToString() ?? value?.ToString())
            .ToArray();
        return KnownVMs.All
            .Where(machine => names.Length == 0 || names.Any(name => Word.Matches(name, machine.Identity.Name)))
            .SelectMany(machine => machine.VcpuIds)
            .Distinct()
            .Order()
            .Select(id => id.ToString(CultureInfo.InvariantCulture))
            .Where(id => Word.Matches(wordToComplete, id))
            .Select(id => new CompletionResult(id, id, CompletionResultType.ParameterValue, $"vCPU {id}"));
    }
}
