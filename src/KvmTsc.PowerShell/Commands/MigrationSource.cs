using System.Management.Automation;
using System.Management.Automation.Runspaces;
using KvmTsc.Hosts;
using KvmTsc.Machines;
using KvmTsc.Migration;
using KvmTsc.Migration.Preflight;
using KvmTsc.PowerShell.Binding;
using KvmTsc.PowerShell.Remoting;

namespace KvmTsc.PowerShell.Commands;

/// <summary>What a migration takes clocks from: a captured state, or a VM of this host or of another.</summary>
internal sealed class MigrationSource
{
    private readonly object _source;
    private readonly PSSession? _session;
    private readonly RemoteHost? _host;
    private readonly Targets _targets;
    private readonly Action<ProgressRecord> _meanwhile;
    private readonly CancellationToken _cancellation;

    public MigrationSource(object source, PSSession? session, Targets targets, Action<ProgressRecord> meanwhile, CancellationToken cancellation)
    {
        _source = source;
        _session = source is KvmTscState ? null : session;
        _host = _session is null ? null : new RemoteHost(_session);
        _targets = targets;
        _meanwhile = meanwhile;
        _cancellation = cancellation;
    }

    /// <summary>What a question calls it.</summary>
    public string? Name => _source switch
    {
        KvmTscState state => state.VMName,
        VMReference vm when _host is null => _targets.Single(vm).Identity.ToString(),
        var vm => $"{vm} on {_host!.Name}",
    };

    /// <summary>Looks at a migration to a VM of this host; null for one that is yet to come.</summary>
    public TscPreflight Preflight(Machine? destination, TscPreflightOptions options) => _source is VMReference vm && _host is null
        ? TscPreflight.Run(_targets.Single(vm), destination, options, _cancellation)
        : TscPreflight.Run(Capture(force: true), destination, options, _cancellation);

    /// <summary>Looks at a migration to a host that is not asked.</summary>
    public TscPreflight Plan(KvmHostInformation host, TscPreflightOptions options) => _source is VMReference vm && _host is null
        ? TscPreflight.Plan(_targets.Single(vm), host, options, _cancellation)
        : TscPreflight.Plan(Capture(force: true), host, options);

    /// <summary>Asks its host and the destination's for the time.</summary>
    /// <param name="destination">A session on the destination's host; null for this host.</param>
    /// <returns>Null where there is one host only, or the one that a state is of cannot be asked.</returns>
    public KvmClockComparison? CompareClocks(PSSession? destination) =>
        _session == destination || (_source is KvmTscState state && !state.Host.IsThisBoot())
            ? null
            : KvmClockComparison.Between(ClockOf(_session), ClockOf(destination));

    private KvmClockComparison ClockOf(PSSession? session) =>
        session is null ? KvmClockComparison.Same : new RemoteHost(session).CompareClock(_cancellation);

    /// <summary>Its clocks.</summary>
    /// <param name="force">Takes unequal offsets, for others to judge.</param>
    public KvmTscState Capture(bool force) => _source switch
    {
        KvmTscState state => state,
        VMReference vm when _host is not null => RemoteCommands.Save(_host, vm, force, _meanwhile, _cancellation),
        var vm => KvmTscState.Save(_targets.Single((VMReference)vm), force, _cancellation),
    };
}
