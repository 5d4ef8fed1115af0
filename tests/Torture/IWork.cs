namespace KvmTsc.Torture;

/// <summary>What is read and written inside the target.</summary>
internal interface IWork
{
    /// <summary>Reads the offsets of all vCPUs, and whatever else can be read.</summary>
    IReadOnlyList<long> Read(out double stoppedMicroseconds);

    /// <summary>Gives all vCPUs an offset.</summary>
    /// <returns>For how long the target was stopped, in microseconds.</returns>
    double Write(long offset);
}
