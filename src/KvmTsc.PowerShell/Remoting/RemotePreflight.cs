using System.Management.Automation;
using KvmTsc.Migration.Preflight;

namespace KvmTsc.PowerShell.Remoting;

/// <summary>What Test-KvmTscMigration found on another host.</summary>
internal sealed class RemotePreflight
{
    private readonly string _host;
    private readonly PSObject[] _findings;

    public RemotePreflight(string host, PSObject test)
    {
        _host = host;
        _findings = [.. (LanguagePrimitives.GetEnumerable(test.Properties[nameof(KvmTscMigrationTest.Findings)].Value) ?? Array.Empty<object>())
            .Cast<object>().Select(PSObject.AsPSObject)];
    }

    /// <summary>What makes the migration less exact.</summary>
    public IEnumerable<string> Warnings => Of(FindingSeverity.Warning).Select(finding =>
        $"{Text(finding, nameof(KvmTscFinding.Evidence))} {Text(finding, nameof(KvmTscFinding.Action))}");

    /// <summary>Refuses what would be refused there.</summary>
    /// <exception cref="KvmException">The first of the errors.</exception>
    public void Require()
    {
        if (Of(FindingSeverity.Error).FirstOrDefault() is not { } error)
            return;
        throw new KvmException(
            Enum.TryParse<KvmErrorId>(Text(error, nameof(KvmTscFinding.Check)), out var id) ? id : KvmErrorId.RemoteFailed,
            $"{_host}: {Text(error, nameof(KvmTscFinding.Evidence))}",
            Text(error, nameof(KvmTscFinding.Action)));
    }

    private IEnumerable<PSObject> Of(FindingSeverity severity) =>
        _findings.Where(finding => LanguagePrimitives.ConvertTo<FindingSeverity>(finding.Properties[nameof(KvmTscFinding.Severity)].Value) == severity);

    private static string Text(PSObject finding, string property) => finding.Properties[property].Value.ToString()!;
}
