using KvmTsc.Processes;

namespace KvmTsc.Discovery;

/// <summary>KVM's descriptors of a process. Open, it is that process's: once that has ended it is empty, though another may have its number.</summary>
internal sealed class DescriptorList : IDisposable
{
    private readonly NumberedDirectory _directory;

    private DescriptorList(NumberedDirectory directory) => _directory = directory;

    /// <summary>What was read last.</summary>
    public IReadOnlyList<KvmDescriptor> Last { get; private set; } = [];

    /// <summary>Whether the process still has one of those, and so is still there. It may close one, and all of them when it ends only.</summary>
    public bool IsAlive
    {
        get
        {
            Span<byte> buffer = stackalloc byte[KvmDescriptor.LinkLength];
            foreach (var descriptor in Last)
            {
                if (_directory.ReadLink(descriptor.Number, buffer).Length > 0)
                    return true;
            }

            return false;
        }
    }

    /// <summary>Opens it; null if the process is gone or may not be looked at.</summary>
    public static DescriptorList? Open(int processId) => NumberedDirectory.Open($"/proc/{processId}/fd") is { } directory ? new DescriptorList(directory) : null;

    /// <summary>Reads KVM's descriptors, ascending.</summary>
    public IReadOnlyList<KvmDescriptor> Read()
    {
        List<KvmDescriptor>? found = null;
        Span<byte> buffer = stackalloc byte[KvmDescriptor.LinkLength];
        foreach (var number in _directory.ReadNumbers())
        {
            if (KvmDescriptor.Parse(number, _directory.ReadLink(number, buffer)) is { } descriptor)
                (found ??= []).Add(descriptor);
        }

        found?.Sort((a, b) => a.Number.CompareTo(b.Number));
        return Last = found ?? (IReadOnlyList<KvmDescriptor>)[];
    }

    /// <inheritdoc/>
    public void Dispose() => _directory.Dispose();
}
