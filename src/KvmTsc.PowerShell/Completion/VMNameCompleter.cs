using System.Collections;
using System.Management.Automation;
using System.Management.Automation.Language;

namespace KvmTsc.PowerShell.Completion;

/// <summary>Completes the names of VMs.</summary>
public sealed class VMNameCompleter : IArgumentCompleter
{
    /// <inheritdoc/>
    public IEnumerable<CompletionResult> CompleteArgument(
        string commandName, string parameterName, string wordToComplete, CommandAst commandAst, IDictionary fakeBoundParameters) =>
        KnownVMs.All
            .Where(machine => Word.Matches(wordToComplete, machine.Identity.Name))
            .OrderBy(machine => machine.Identity.Name, StringComparer.OrdinalIgnoreCase)
            .Select(machine => new CompletionResult(
                Word.Quote(machine.Identity.Name, wordToComplete),
                machine.Identity.Name,
                CompletionResultType.ParameterValue,
                $"{machine.Identity.Name}: {machine.Vmm}, process {machine.Identity.ProcessId}, {machine.VcpuIds.Count} vCPUs"));
}
