using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace KvmTsc.Execution;

/// <summary>
/// Ioctls on the descriptors of one VM, to be run in one go, and the memory that they work on. The memory is pinned, and holds
/// no address until it is run: <see cref="Relocations"/> says where those of its own slots have to be put.
/// </summary>
public sealed class IoctlBatch
{
    private readonly List<BatchStep> _steps = [];
    private readonly List<UndoStep> _undo = [];
    private readonly List<LastingEffect> _lasting = [];
    private readonly List<Relocation> _relocations = [];
    private byte[] _memory = GC.AllocateArray<byte>(512, pinned: true);
    private int _used;

    /// <summary>An address to be written before the batch runs: that of <paramref name="Target"/>, at <paramref name="At"/>.</summary>
    /// <param name="At">Where the address goes.</param>
    /// <param name="Target">Whose address.</param>
    public sealed record Relocation(int At, int Target);

    /// <summary>Puts something back when the batch fails at the step <paramref name="From"/> or later.</summary>
    /// <param name="From">The index of the first step whose failure makes this needed.</param>
    /// <param name="Step">What puts it back.</param>
    public sealed record UndoStep(int From, BatchStep Step);

    /// <summary>What a step does that nothing can undo.</summary>
    /// <param name="Step">The index of the step.</param>
    /// <param name="What">What stays, as a part of a sentence.</param>
    public sealed record LastingEffect(int Step, string What);

    /// <summary>The steps, in order.</summary>
    public IReadOnlyList<BatchStep> Steps => _steps;

    /// <summary>What undoes the steps after a failure, in order; all of it is tried.</summary>
    public IReadOnlyList<UndoStep> Undo => _undo;

    /// <summary>What stays even if the batch is undone.</summary>
    public IReadOnlyList<LastingEffect> Lasting => _lasting;

    /// <summary>The addresses that the memory needs.</summary>
    public IReadOnlyList<Relocation> Relocations => _relocations;

    /// <summary>The memory, as it is now.</summary>
    public Span<byte> Memory => _memory.AsSpan(0, _used);

    /// <summary>Adds a step.</summary>
    public void Add(BatchStep step) => _steps.Add(step);

    /// <summary>Adds what is to be run if the step <paramref name="from"/> or a later one fails.</summary>
    public void AddUndo(int from, BatchStep step) => _undo.Add(new UndoStep(from, step));

    /// <summary>Has all of it put back whichever step fails: another batch has written the same before.</summary>
    public void UndoWhateverFails()
    {
        for (var i = 0; i < _undo.Count; i++)
            _undo[i] = _undo[i] with { From = 0 };
    }

    /// <summary>Says what the next step to be added does that nothing can undo.</summary>
    public void AddLasting(string what) => _lasting.Add(new LastingEffect(_steps.Count, what));

    /// <summary>Reserves a slot.</summary>
    public Slot<T> Reserve<T>(T value = default) where T : unmanaged
    {
        var size = Unsafe.SizeOf<T>();
        var offset = (_used + 7) & ~7;
        if (offset + size > _memory.Length)
            Grow(offset + size);
        _used = offset + size;
        var slot = new Slot<T>(offset);
        Write(slot, value);
        return slot;
    }

    /// <summary>Has the address of <paramref name="target"/> written at a place in the memory when the batch runs.</summary>
    public void Relocate<T>(int at, Slot<T> target) where T : unmanaged => _relocations.Add(new Relocation(at, target.Offset));

    /// <summary>What a slot holds.</summary>
    public T Read<T>(Slot<T> slot) where T : unmanaged => MemoryMarshal.Read<T>(Memory[slot.Offset..]);

    /// <summary>Fills a slot.</summary>
    public void Write<T>(Slot<T> slot, T value) where T : unmanaged => MemoryMarshal.Write(Memory[slot.Offset..], in value);

    private void Grow(int needed)
    {
        var larger = GC.AllocateArray<byte>(Math.Max(needed, _memory.Length * 2), pinned: true);
        Memory.CopyTo(larger);
        _memory = larger;
    }
}
