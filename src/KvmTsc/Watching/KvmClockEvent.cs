using KvmTsc.Machines;

namespace KvmTsc.Watching;

/// <summary>What happened to a VM's clocks.</summary>
public enum KvmClockEventKind
{
    /// <summary>The VM is watched from now on.</summary>
    Found,

    /// <summary>The VM is of the process that watches, and is not watched; Reason says why.</summary>
    LeftOut,

    /// <summary>It was paused.</summary>
    Paused,

    /// <summary>It goes on.</summary>
    Resumed,

    /// <summary>Its kvmclock was set back: its guest lost time. So was its TSC, where it was put back to an earlier moment.</summary>
    SetBack,

    /// <summary>Its kvmclock was set forward, by somebody else.</summary>
    SetForward,

    /// <summary>Its TSC was moved, its kvmclock not: its guest was reset, or wrote its TSC.</summary>
    TscMoved,

    /// <summary>KVM turned its master clock off, since its vCPUs' offsets differ.</summary>
    MasterClockLost,

    /// <summary>KVM turned it on again.</summary>
    MasterClockRegained,

    /// <summary>What it had lost was given back.</summary>
    Corrected,

    /// <summary>The pause has not passed for it: its TSC goes on where kvmclock does.</summary>
    Excluded,

    /// <summary>What it had lost would have been given back, but for -WhatIf.</summary>
    WouldCorrect,

    /// <summary>What it had lost was not given back; Reason says why.</summary>
    Refused,

    /// <summary>Its process ended.</summary>
    Ended,

    /// <summary>The kernel had more events than room; every VM was looked at anew.</summary>
    EventsLost,

    /// <summary>What is known of the clocks, or the counts, could not be written to a file; Reason says why. The watch goes on.</summary>
    NotWritten,
}

/// <summary>What happened to the clocks of a VM that is watched.</summary>
public sealed class KvmClockEvent
{
    internal KvmClockEvent(
        KvmClockEventKind kind, VMIdentity? vm, long? lostNanoseconds = null, double? stoppedMicroseconds = null, string? reason = null,
        double? residualNanoseconds = null, double? errorBoundNanoseconds = null, bool? beforeGuestRan = null)
    {
        Kind = kind;
        VMName = vm?.Name;
        ProcessId = vm?.ProcessId;
        VMId = vm?.Id;
        LostNanoseconds = lostNanoseconds;
        StoppedMicroseconds = stoppedMicroseconds;
        Reason = reason;
        ResidualNanoseconds = residualNanoseconds;
        ErrorBoundNanoseconds = errorBoundNanoseconds;
        BeforeGuestRan = beforeGuestRan;
    }

    /// <summary>An error, and what to do about it.</summary>
    internal static KvmClockEvent Of(KvmClockEventKind kind, VMIdentity? vm, KvmException exception) =>
        new(kind, vm, reason: $"{exception.Message} {exception.RecommendedAction}");

    internal KvmClockEventKind Kind { get; }

    /// <summary>When it was seen, by this host's clock.</summary>
    public DateTime Time { get; } = DateTime.Now;

    /// <summary>The VM's name; null for what is about all.</summary>
    public string? VMName { get; }

    /// <summary>What happened: the name of a <see cref="KvmClockEventKind"/>.</summary>
    public string Event => Kind.ToString();

    /// <summary>How much time the guest lost, in nanoseconds; negative for what it gained.</summary>
    public long? LostNanoseconds { get; }

    /// <summary>How far kvmclock is off after a correction, in nanoseconds.</summary>
    public double? ResidualNanoseconds { get; }

    /// <summary>What that may be off by itself, in nanoseconds.</summary>
    public double? ErrorBoundNanoseconds { get; }

    /// <summary>For how long the VM's vCPUs were held for this, in microseconds.</summary>
    public double? StoppedMicroseconds { get; }

    /// <summary>Whether the guest was right from its first instruction on; it ran wrong for a moment else.</summary>
    public bool? BeforeGuestRan { get; }

    /// <summary>Why it is so, where there is more to say.</summary>
    public string? Reason { get; }

    /// <summary>The process that runs the VM.</summary>
    public int? ProcessId { get; }

    /// <summary>The VM among those of this host.</summary>
    public string? VMId { get; }
}
