using System.Collections;
using System.Globalization;
using System.Management.Automation;
using System.Management.Automation.Language;

namespace KvmTsc.PowerShell.Completion;

/// <summary>Completes the ids of processes that run VMs.</summary>
public sealed class ProcessIdCompleter : IArgumentCompleter
{
    /// <inheritdoc/>
    public IEnumerable<CompletionResult> CompleteArgument(
        string commandName, string parameterName, string wordToComplete, CommandAst commandAst, IDictionary fakeBoundParameters) =>
        KnownVMs.All
            .GroupBy(machine => machine.Identity.ProcessId)
            .Select(process => (Id: process.Key.ToString(CultureInfo.InvariantCulture), Names: string.Join(", ", process.Select(machine => machine.Identity.Name))))
            .Where(process => Word.Matches(wordToComplete, process.Id))
            .Select(process => new CompletionResult(process.Id, $"{process.Id} ({process.Names})", CompletionResultType.ParameterValue, process.Names));
}
