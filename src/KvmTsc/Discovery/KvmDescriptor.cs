using System.Buffers.Text;

namespace KvmTsc.Discovery;

/// <summary>A descriptor of a process that is one of KVM's. It is no struct, since lists and dictionaries of references are compiled ahead.</summary>
/// <param name="Number">The descriptor.</param>
/// <param name="VcpuId">The vCPU, null for a VM.</param>
internal sealed record KvmDescriptor(int Number, int? VcpuId)
{
    /// <summary>Room for every link that <see cref="Parse"/> takes, and one byte more, which tells that a link is none of them.</summary>
    public const int LinkLength = 40;

    /// <summary>Whether it is of a VM.</summary>
    public bool IsVM => VcpuId is null;

    /// <summary>The descriptor behind a link of /proc/PID/fd, null if it is none of KVM's.</summary>
    public static KvmDescriptor? Parse(int number, ReadOnlySpan<byte> link)
    {
        if (link.SequenceEqual("anon_inode:kvm-vm"u8))
            return new KvmDescriptor(number, null);
        var prefix = "anon_inode:kvm-vcpu:"u8;
        return link.StartsWith(prefix) && Utf8Parser.TryParse(link[prefix.Length..], out int id, out var length)
            && prefix.Length + length == link.Length && id >= 0
            ? new KvmDescriptor(number, id)
            : null;
    }
}
