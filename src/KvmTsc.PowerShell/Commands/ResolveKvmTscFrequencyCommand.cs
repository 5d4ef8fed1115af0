using System.Management.Automation;
using KvmTsc.Hosts;
using KvmTsc.PowerShell.Binding;

namespace KvmTsc.PowerShell.Commands;

/// <summary>Computes which TSC frequency a guest can have on each of several hosts.</summary>
[Cmdlet(VerbsDiagnostic.Resolve, "KvmTscFrequency")]
[OutputType(typeof(KvmCommonTscFrequency))]
public sealed class ResolveKvmTscFrequencyCommand : KvmCommand
{
    private readonly List<KvmHostInformation> _hosts = [];

    /// <summary>The hosts, as each said of itself by Get-KvmHost, whenever that was: nothing is asked of them.</summary>
    [Parameter(Mandatory = true, Position = 0, ValueFromPipeline = true)]
    [ValidateNotNullOrEmpty]
    [FromProperties(typeof(KvmHostInformation))]
    public KvmHostInformation[] KvmHost { get; set; } = [];

    /// <inheritdoc/>
    protected override void ProcessRecord() => _hosts.AddRange(KvmHost);

    /// <inheritdoc/>
    protected override void EndProcessing()
    {
        if (_hosts.Count > 0)
            For(string.Join(", ", _hosts.Select(host => host.MachineName)), () => WriteObject(KvmCommonTscFrequency.Of(_hosts)));
    }
}
