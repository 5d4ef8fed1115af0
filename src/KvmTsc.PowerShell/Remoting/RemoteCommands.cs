using System.Collections;
using System.Management.Automation;
using KvmTsc.Migration;
using KvmTsc.Migration.Preflight;
using KvmTsc.PowerShell.Binding;

namespace KvmTsc.PowerShell.Remoting;

/// <summary>The steps of a migration, done by the cmdlets of another host.</summary>
internal static class RemoteCommands
{
    private static readonly FromPropertiesAttribute s_state = new(typeof(KvmTscState));

    /// <summary>Captures a VM's clocks there.</summary>
    public static KvmTscState Save(RemoteHost host, VMReference vm, bool force, Action<ProgressRecord> meanwhile, CancellationToken cancellationToken)
    {
        var parameters = new Hashtable { ["VM"] = vm, ["Force"] = force };
        var saved = host.Run("Save-KvmTscState", parameters, $"saving the clocks of {vm}; nothing was changed", meanwhile, cancellationToken);
        return (KvmTscState)s_state.Transform(null!, saved);
    }

    /// <summary>Looks there whether a state could be restored, to a VM or to one that is yet to come.</summary>
    public static RemotePreflight Test(
        RemoteHost host, KvmTscState state, VMReference? vm, TscPreflightOptions options, Action<ProgressRecord> meanwhile, CancellationToken cancellationToken)
    {
        var parameters = new Hashtable
        {
            ["Source"] = state,
            ["Downtime"] = options.Restore.Downtime.ToString(),
            ["DowntimeSeconds"] = options.DowntimeSeconds,
            ["MaximumErrorMicroseconds"] = options.MaximumErrorMicroseconds,
            ["Force"] = options.Restore.Force,
            ["AtResume"] = options.LeavesDestinationAlone,
        };
        if (options.Clocks is not null)
            parameters["Clocks"] = options.Clocks;
        if (vm is not null)
            parameters["Destination"] = vm;
        if (options.Restore.MaximumDowntime is { } maximum)
            parameters["MaximumDowntime"] = maximum;
        var tested = host.Run("Test-KvmTscMigration", parameters, $"looking at {vm?.ToString() ?? "it"}; nothing was changed", meanwhile, cancellationToken);
        return new RemotePreflight(host.Name, tested);
    }

    /// <summary>Restores a state there.</summary>
    public static object Restore(
        RemoteHost host, KvmTscState state, VMReference vm, TscRestoreOptions options, int? timeoutSeconds, Action<ProgressRecord> meanwhile,
        CancellationToken cancellationToken)
    {
        var parameters = new Hashtable
        {
            ["VM"] = vm,
            ["State"] = state,
            ["Method"] = options.Method.ToString(),
            ["Downtime"] = options.Downtime.ToString(),
            ["Force"] = options.Force,
            ["Confirm"] = false,
        };
        if (options.MaximumDowntime is { } maximum)
            parameters["MaximumDowntime"] = maximum;
        if (timeoutSeconds is { } timeout)
        {
            parameters["AtResume"] = true;
            parameters["TimeoutSeconds"] = timeout;
        }

        var result = host.Run(
            "Restore-KvmTscState",
            parameters,
            $"restoring the clocks of {vm}: they are all as they were, or all restored; {state.VMName} was not changed",
            meanwhile,
            cancellationToken);

        return RemoteObject.From<KvmTscMigrationResult>(result, host.Name);
    }
}
