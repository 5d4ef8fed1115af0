using System.Management.Automation;
using KvmTsc.Hosts;

namespace KvmTsc.PowerShell.Commands;

/// <summary>Shows what this host can do for the clocks of its VMs.</summary>
[Cmdlet(VerbsCommon.Get, "KvmHost")]
[OutputType(typeof(KvmHostInformation))]
public sealed class GetKvmHostCommand : KvmCommand
{
    /// <inheritdoc/>
    protected override void ProcessRecord() => For(Environment.MachineName, () => WriteObject(KvmHostInformation.Read()));
}
