namespace KvmTsc.Execution;

/// <summary>What came of something that was done while a VM stood still.</summary>
/// <param name="Result">What it returned.</param>
/// <param name="Microseconds">For how long a running VMM was stopped for it, in microseconds; 0 where nothing had to be stopped.</param>
public readonly record struct Stopped<T>(T Result, double Microseconds);
