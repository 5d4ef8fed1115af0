using System.Collections;
using System.Management.Automation;
using KvmTsc.Migration;
using KvmTsc.PowerShell.Binding;
using KvmTsc.PowerShell.Commands;

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

    /// <summary>Looks there whether a state could be restored.</summary>
    public static RemotePreflight Test(
        RemoteHost host, KvmTscState state, VMReference vm, TscRestoreOptions options, Action<ProgressRecord> meanwhile, CancellationToken cancellationToken)
    {
        var parameters = new Hashtable
        {
            ["Source"] = state,
            ["Destination"] = vm,
            ["Downtime"] = options.Downtime.ToString(),
            ["Force"] = options.Force,
            ["AtResume"] = true, // its clocks are looked at when they are restored
        };
        if (options.MaximumDowntime is { } maximum)
            parameters["MaximumDowntime"] = maximum;
        var tested = host.Run("Test-KvmTscMigration", parameters, $"looking at {vm}; nothing was changed", meanwhile, cancellationToken);
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

        // It is shown as one that was made here.
        result.TypeNames.Insert(0, typeof(KvmTscMigrationResult).FullName!);
        NameAgain<ResidualMeasure>(result, nameof(KvmTscMigrationResult.MeasuredBy));
        NameAgain<TscMethod>(result, nameof(KvmTscMigrationResult.Method));
        NameAgain<TscDowntime>(result, nameof(KvmTscMigrationResult.Downtime));
        return result;
    }

    /// <summary>What was one of several names arrives as its number.</summary>
    private static void NameAgain<T>(PSObject result, string property) where T : struct, Enum =>
        result.Properties[property].Value = LanguagePrimitives.ConvertTo<T>(result.Properties[property].Value);

    /// <summary>The question that is asked before: only the other host can tell how its VM's clocks stand.</summary>
    public static string Question(KvmTscState state, TscRestoreOptions options, bool atResume)
    {
        var when = atResume ? "when the VM is resumed" : "at once";
        var advanced = options.Downtime == TscDowntime.Count ? ", and the time since" : "";
        return $"Restore the clocks of {state.VMName} {when}: kvmclock to {Text.Seconds(state.ClockNanoseconds)}{advanced}, "
            + $"the TSC of {state.Vcpus.Count} vCPU(s) likewise (-Method {options.Method})";
    }
}
