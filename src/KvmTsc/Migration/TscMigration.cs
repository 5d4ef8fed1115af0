using KvmTsc.Machines;

namespace KvmTsc.Migration;

/// <summary>The whole algorithm between two VMs.</summary>
public static class TscMigration
{
    /// <summary>Captures the source and restores the destination.</summary>
    /// <exception cref="KvmException">The destination is as it was unless the message says otherwise; the source is never changed.</exception>
    public static KvmTscMigrationResult Run(Machine source, Machine destination, TscRestoreOptions options, CancellationToken cancellationToken)
    {
        RequireTwo(source, destination);
        return new TscRestore(destination, KvmTscState.Save(source, options.Force, cancellationToken), options).Run(cancellationToken);
    }

    /// <summary>Refuses to migrate a VM to itself.</summary>
    public static void RequireTwo(Machine source, Machine destination)
    {
        if (source.Identity.Id == destination.Identity.Id)
        {
            throw new KvmException(
                KvmErrorId.SameVM, $"{source.Identity.Name} is both source and destination.", "Name another VM as -Destination; for one VM over time use Save-KvmTscState and Restore-KvmTscState.");
        }
    }
}
