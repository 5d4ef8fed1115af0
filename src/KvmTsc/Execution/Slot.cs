namespace KvmTsc.Execution;

/// <summary>A place in a batch's memory that holds a <typeparamref name="T"/>.</summary>
/// <param name="Offset">The distance from the memory's beginning, in bytes.</param>
public readonly record struct Slot<T>(int Offset) where T : unmanaged;
