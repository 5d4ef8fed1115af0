using System.Management.Automation.Runspaces;
using KvmTsc.Migration;
using KvmTsc.Migration.Preflight;

namespace KvmTsc.PowerShell.Remoting;

/// <summary>CLOCK_REALTIME of the hosts of a migration.</summary>
internal static class HostClocks
{
    /// <summary>Asks both hosts for the time.</summary>
    /// <param name="source">What the clocks are taken from: a state, or a VM.</param>
    /// <param name="sourceSession">A session on the host of that VM; null for this host.</param>
    /// <param name="destinationSession">A session on the host of the destination; null for this host.</param>
    /// <param name="cancellationToken">Ends waiting for an answer.</param>
    /// <returns>Null where there is one host only, or the one that a state is of cannot be asked.</returns>
    /// <exception cref="KvmException">A session was lost.</exception>
    public static KvmClockComparison? Compare(
        object source, PSSession? sourceSession, PSSession? destinationSession, CancellationToken cancellationToken)
    {
        var from = source is KvmTscState ? null : sourceSession;
        if (from == destinationSession || (source is KvmTscState state && !state.Host.IsThisBoot()))
            return null;
        return KvmClockComparison.Between(Of(from, cancellationToken), Of(destinationSession, cancellationToken));
    }

    private static KvmClockComparison Of(PSSession? session, CancellationToken cancellationToken) =>
        session is null ? KvmClockComparison.Same : new RemoteHost(session).CompareClock(cancellationToken);
}
