using System.Text;
using KvmTsc.Processes;

namespace KvmTsc.Tests.Processes;

public sealed class NumberedDirectoryTests : IDisposable
{
    private readonly DirectoryInfo _directory = Directory.CreateTempSubdirectory("kvmtsc-numbers-");

    public void Dispose() => _directory.Delete(recursive: true);

    [Fact]
    public void Its_entries_are_the_numbers_in_it()
    {
        // More than one read of the directory gives.
        var numbers = Enumerable.Range(0, 700).ToArray();
        foreach (var name in numbers.Select(number => $"{number}").Concat(["self", "12x", "-1", "99999999999"]))
            _directory.CreateSubdirectory(name);
        Assert.Equal(numbers, NumberedDirectory.Read(_directory.FullName).Order());
    }

    [Fact]
    public void Its_links_are_read_as_far_as_there_is_room()
    {
        File.CreateSymbolicLink(Path.Combine(_directory.FullName, "2147483647"), "anon_inode:kvm-vm");
        using var directory = NumberedDirectory.Open(_directory.FullName)!;
        Assert.Equal("anon_inode:kvm-vm", Encoding.UTF8.GetString(directory.ReadLink(int.MaxValue, new byte[40])));
        Assert.Equal("anon", Encoding.UTF8.GetString(directory.ReadLink(int.MaxValue, new byte[4])));
        Assert.Empty(directory.ReadLink(8, new byte[40]).ToArray());
    }

    [Fact]
    public void One_that_is_not_there_is_no_error()
    {
        Assert.Null(NumberedDirectory.Open("/proc/0/fd"));
        Assert.Empty(NumberedDirectory.Read("/proc/0/fd"));
    }

    [Fact]
    public void The_processes_are_in_proc() => Assert.Contains(Environment.ProcessId, NumberedDirectory.Read("/proc"));
}
