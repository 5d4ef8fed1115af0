namespace KvmTsc.Migration.Preflight;

/// <summary>One side of a migration that was looked at.</summary>
/// <param name="VMName">The VM, null where there is none yet.</param>
/// <param name="MachineName">Its host.</param>
/// <param name="StoppedMicroseconds">For how long its VMM was stopped, null where that is not known.</param>
internal sealed record MigrationSubject(string? VMName, string? MachineName, double? StoppedMicroseconds);
