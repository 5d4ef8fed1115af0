using System.Globalization;
using KvmTsc.Interop;
using KvmTsc.Machines;
using KvmTsc.Processes;

namespace KvmTsc.Discovery;

/// <summary>The VMs that KVM's debugfs shows: a directory per VM, named after the thread that created it and its descriptor there.</summary>
internal sealed class DebugfsIndex
{
    private const string Root = "/sys/kernel/debug/kvm";
    private const string InitialPidNamespace = "pid:[4026531836]";

    private readonly bool _isReadable;
    private readonly Lazy<ILookup<int, int>> _creatorsByDescriptor = new(ReadCreators);

    /// <summary>What one sees who may not read it.</summary>
    public static DebugfsIndex Empty { get; } = new(isReadable: false);

    private DebugfsIndex(bool isReadable) => _isReadable = isReadable;

    /// <summary>Its thread ids are the host's, so in a container it is as if it could not be read.</summary>
    public static DebugfsIndex Open() =>
        KernelFiles.ReadLinkTarget("/proc/self/ns/pid") == InitialPidNamespace && LibC.Exists(Root) ? new DebugfsIndex(isReadable: true) : Empty;

    /// <summary>
    /// The directory of a process's VM: that of the process's thread which created it or, where that thread has ended, the one whose vCPUs the
    /// process's threads run. Null if there is none, or more than one. Only the second takes a look at the VMs of other processes.
    /// </summary>
    /// <param name="threads">The process's threads.</param>
    /// <param name="descriptors">The VM's descriptors in it.</param>
    public VMDebugfs? Find(IReadOnlyCollection<int> threads, IReadOnlyCollection<int> descriptors)
    {
        if (!_isReadable)
            return null;
        var found = new List<string>();
        foreach (var thread in threads)
        foreach (var descriptor in descriptors)
        {
            var path = PathOf(thread, descriptor);
            if (LibC.Exists(path))
                found.Add(path);
        }

        if (found.Count == 0)
        {
            var own = threads.ToHashSet();
            found.AddRange(descriptors.SelectMany(PathsOf).Where(path => RunsIn(own, new VMDebugfs(path))));
        }

        return found is [var only] ? new VMDebugfs(only) : null;
    }

    private static bool RunsIn(HashSet<int> threads, VMDebugfs vm) => vm.ReadVcpuIds().Any(id => vm.ReadThread(id) is { } thread && threads.Contains(thread));

    private IEnumerable<string> PathsOf(int descriptor) => _creatorsByDescriptor.Value[descriptor].Select(thread => PathOf(thread, descriptor));

    private static string PathOf(int threadId, int descriptor) => string.Create(CultureInfo.InvariantCulture, $"{Root}/{threadId}-{descriptor}");

    private static ILookup<int, int> ReadCreators()
    {
        try
        {
            return new DirectoryInfo(Root).EnumerateDirectories().Select(directory => Parse(directory.Name)).OfType<(int ThreadId, int Descriptor)>()
                .ToLookup(name => name.Descriptor, name => name.ThreadId);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            return Enumerable.Empty<int>().ToLookup(id => id);
        }
    }

    private static (int ThreadId, int Descriptor)? Parse(string name) =>
        name.Split('-') is [var thread, var descriptor]
        && int.TryParse(thread, NumberStyles.None, CultureInfo.InvariantCulture, out var threadId)
        && int.TryParse(descriptor, NumberStyles.None, CultureInfo.InvariantCulture, out var number)
            ? (threadId, number)
            : null;
}
