namespace KvmTsc.Tests.Simulation;

/// <summary>Who keeps CLOCK_REALTIME of a simulated host.</summary>
internal enum ClockKeeper
{
    /// <summary>Somebody who states what it is off by, and no more.</summary>
    Exact,

    /// <summary>chrony: it slews by the frequency, and states a maximum error that is somewhat more.</summary>
    Chrony,

    /// <summary>systemd-timesyncd: it states no error, and what is yet to be slewed as an offset.</summary>
    Timesyncd,

    /// <summary>phc2sys of linuxptp: nearly right, and STA_UNSYNC stays set.</summary>
    Ptp,

    /// <summary>Nobody.</summary>
    Nobody,
}
