namespace KvmTsc.Torture;

/// <summary>What an attacker was at when it was killed.</summary>
internal enum KillPhase
{
    /// <summary>Between two attaches.</summary>
    Between,

    /// <summary>Finding out about the process, and stopping its threads.</summary>
    Stopping,

    /// <summary>All threads stand still, no batch runs.</summary>
    Stopped,

    /// <summary>A batch that reads.</summary>
    Reading,

    /// <summary>A batch that writes.</summary>
    Writing,

    /// <summary>Sending the threads home.</summary>
    Releasing,
}
