using System.Management.Automation;
using KvmTsc.Migration.Preflight;
using KvmTsc.PowerShell.Binding;

namespace KvmTsc.PowerShell.Remoting;

/// <summary>What Test-KvmTscMigration found on another host.</summary>
internal sealed class RemotePreflight
{
    private static readonly FromPropertiesAttribute s_finding = new(typeof(KvmTscFinding));

    private readonly string _host;

    public RemotePreflight(string host, PSObject test)
    {
        _host = host;
        var findings = LanguagePrimitives.GetEnumerable(test.Properties[nameof(KvmTscMigrationTest.Findings)].Value) ?? Array.Empty<object>();
        Findings = [.. findings.Cast<object>().Select(finding => (KvmTscFinding)s_finding.Transform(null!, finding))];
        Result = RemoteObject.From<KvmTscMigrationTest>(test, host);
        Result.Properties[nameof(KvmTscMigrationTest.Findings)].Value = Findings;
    }

    public KvmTscFinding[] Findings { get; }

    /// <summary>All that is told of it.</summary>
    public PSObject Result { get; }

    /// <summary>Whether the migration would be done.</summary>
    public bool Passed => Findings.All(finding => finding.Severity != FindingSeverity.Error);

    /// <summary>Refuses what would be refused there.</summary>
    /// <exception cref="KvmException">The first of the errors.</exception>
    public void Require()
    {
        if (Findings.FirstOrDefault(finding => finding.Severity == FindingSeverity.Error) is not { } error)
            return;
        throw new KvmException(
            Enum.TryParse<KvmErrorId>(error.Check, out var id) ? id : KvmErrorId.RemoteFailed, $"{_host}: {error.Evidence}", error.Action)
        {
            ComputerName = _host,
        };
    }
}
