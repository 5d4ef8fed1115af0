using System.Globalization;
using KvmTsc.Machines;
using KvmTsc.Processes;

namespace KvmTsc.Discovery;

/// <summary>The VMs that KVM's debugfs shows: a directory per VM, named after the thread that created it and its descriptor there.</summary>
internal sealed class DebugfsIndex
{
    private const string Root = "/sys/kernel/debug/kvm";
    private const string InitialPidNamespace = "pid:[4026531836]";

    private readonly ILookup<int, (int ThreadId, VMDebugfs VM)> _byDescriptor;

    /// <summary>What one sees who may not read it.</summary>
    public static DebugfsIndex Empty { get; } = new([]);

    private DebugfsIndex(IEnumerable<string> names) => _byDescriptor = names
        .Select(Parse)
        .OfType<(int ThreadId, int Descriptor)>()
        .ToLookup(name => name.Descriptor, name => (name.ThreadId, new VMDebugfs($"{Root}/{name.ThreadId}-{name.Descriptor}")));

    /// <summary>Reads it. Its thread ids are the host's, so in a container it is as if it could not be read.</summary>
    public static DebugfsIndex Read()
    {
        try
        {
            if (KernelFiles.ReadLinkTarget("/proc/self/ns/pid") == InitialPidNamespace)
                return new DebugfsIndex([.. new DirectoryInfo(Root).EnumerateDirectories().Select(directory => directory.Name)]);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
        }

        return Empty;
    }

    /// <summary>
    /// The directory of a process's VM: that of the process's thread which created it or, where that thread has ended, the one whose vCPUs the
    /// process's threads run. Null if there is none, or more than one.
    /// </summary>
    /// <param name="threads">The process's threads. They are read once: VMMs of one program have their VMs under one descriptor, so that each has all to choose from.</param>
    /// <param name="descriptors">The VM's descriptors in it.</param>
    public VMDebugfs? Find(IReadOnlySet<int> threads, IEnumerable<int> descriptors)
    {
        var entries = descriptors.SelectMany(descriptor => _byDescriptor[descriptor]).ToArray();
        var created = entries.Where(entry => threads.Contains(entry.ThreadId)).ToArray();
        var found = created.Length > 0 ? created : [.. entries.Where(entry => RunsIn(threads, entry.VM))];
        return found is [var only] ? only.VM : null;
    }

    private static bool RunsIn(IReadOnlySet<int> threads, VMDebugfs vm) => vm.ReadVcpuIds().Any(id => vm.ReadThread(id) is { } thread && threads.Contains(thread));

    private static (int ThreadId, int Descriptor)? Parse(string name) =>
        name.Split('-') is [var thread, var descriptor]
        && int.TryParse(thread, NumberStyles.None, CultureInfo.InvariantCulture, out var threadId)
        && int.TryParse(descriptor, NumberStyles.None, CultureInfo.InvariantCulture, out var number)
            ? (threadId, number)
            : null;
}
