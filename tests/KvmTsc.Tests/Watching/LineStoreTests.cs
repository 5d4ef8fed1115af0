using KvmTsc.Hosts;
using KvmTsc.Migration;
using KvmTsc.Tests.Simulation;
using KvmTsc.Tests.States;
using KvmTsc.Watching;

namespace KvmTsc.Tests.Watching;

public sealed class LineStoreTests : IDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("kvmtsc-lines-").FullName;
    private readonly SimulatedHost _host = new(HostSpec.Ordinary, new SimulatedTime());
    private readonly SimulatedMachine _machine;

    public LineStoreTests()
    {
        _machine = new SimulatedMachine(_host, 0, 1);
        _machine.RunGuest();
    }

    private string Kept => Path.Combine(_directory, "kept");

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    [Theory]
    [InlineData("web01")]
    [InlineData("../../etc/passwd")]
    [InlineData("Büro 7 ☎.example.com")]
    [InlineData("a long one that is repeated: a long one that is repeated: a long one that is repeated: a long one that is repeated: a long one")]
    public void The_next_watch_knows_what_the_last_one_kept(string name)
    {
        var (one, two) = (Line(name), Line(name));
        Open().Keep(name, [one, two]);
        Assert.Equal([one.HostTsc, two.HostTsc], Open().Of(name).Select(line => line.HostTsc));
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute, File.GetUnixFileMode(Kept));
        Assert.Equal([Kept], Directory.GetDirectories(_directory));
        Assert.Empty(Open().Of("another"));
    }

    [Fact]
    public void What_is_no_longer_needed_is_removed()
    {
        var store = Open();
        KvmTscState[] lines = [Line("web01"), Line("web01"), Line("web01")];
        store.Keep("web01", lines[..2]);
        store.Keep("web01", lines[1..]);
        Assert.Equal(2, Directory.GetFiles(Kept).Length);
        Assert.Equal(lines[1..].Select(line => line.HostTsc), Open().Of("web01").Select(line => line.HostTsc));
    }

    [Fact]
    public void Lines_of_another_boot_and_what_are_none_are_removed()
    {
        var store = Open();
        var line = Line("web01");
        store.Keep("web01", [line, new RandomStates(new Random(7)).Next()]);
        File.WriteAllText(Path.Combine(Kept, "torn.kvmtsc.json"), "{ \"format\":");
        File.WriteAllText(Path.Combine(Kept, "README"), "somebody's");
        Assert.Equal([line.HostTsc], Open().Of("web01").Select(kept => kept.HostTsc));
        Assert.Equal(2, Directory.GetFiles(Kept).Length);
    }

    [Fact]
    public void Without_a_directory_nothing_is_written()
    {
        var store = LineStore.Open(null, () => throw new InvalidOperationException());
        store.Keep("web01", [Line("web01")]);
        Assert.Single(store.Of("web01"));
        Assert.Empty(Directory.GetFileSystemEntries(_directory));
    }

    [Fact]
    public void A_directory_that_cannot_be_is_an_error()
    {
        File.WriteAllText(Kept, "a file");
        Refusal.AssertExplains(Assert.Throws<KvmException>(Open), KvmErrorId.FileWriteFailed);
    }

    private LineStore Open() => LineStore.Open(Kept, () => _machine.Host);

    private KvmTscState Line(string name)
    {
        _host.Time.Advance(TimeSpan.FromSeconds(1));
        return KvmTscState.Save(_machine, force: false, CancellationToken.None).With(name: name);
    }
}
