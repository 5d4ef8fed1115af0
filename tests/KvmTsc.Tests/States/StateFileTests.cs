using System.Diagnostics;
using KvmTsc.States;
using KvmTsc.Tests.Simulation;

namespace KvmTsc.Tests.States;

public sealed class StateFileTests : IDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("kvmtsc-states-").FullName;
    private readonly RandomStates _states = new(new Random(42));

    private string Target => In("web01.json");

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    [Fact]
    public void A_state_comes_back_from_its_file_which_only_its_owner_can_read()
    {
        var state = _states.Next();
        StateFile.Write(Target, state, replace: false);
        Assert.Equal(RandomStates.Picture(state), RandomStates.Picture(StateFile.Read(Target)));
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(Target));
        OnlyTargetIsThere();
    }

    [Fact]
    public void A_file_that_is_there_is_replaced_only_on_demand()
    {
        File.WriteAllText(Target, "precious");
        Explains(KvmErrorId.FileExists, () => StateFile.Write(Target, _states.Next(), replace: false));
        Assert.Equal("precious", File.ReadAllText(Target));

        var state = _states.Next();
        File.SetUnixFileMode(Target, UnixFileMode.UserRead | UnixFileMode.OtherRead);
        StateFile.Write(Target, state, replace: true);
        Assert.Equal(RandomStates.Picture(state), RandomStates.Picture(StateFile.Read(Target)));
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(Target));
        OnlyTargetIsThere();
    }

    [Fact]
    public void Of_many_that_write_one_file_at_once_one_does()
    {
        var states = Enumerable.Range(0, 16).Select(_ => _states.Next()).ToArray();
        var written = 0;
        Parallel.ForEach(states, state =>
        {
            try
            {
                StateFile.Write(Target, state, replace: false);
                Interlocked.Increment(ref written);
            }
            catch (KvmException exception) when (exception.ErrorId == KvmErrorId.FileExists)
            {
            }
        });
        Assert.Equal(1, written);
        Assert.Contains(RandomStates.Picture(StateFile.Read(Target)), states.Select(RandomStates.Picture));
        OnlyTargetIsThere();
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_symbolic_link_is_neither_followed_nor_replaced(bool dangling)
    {
        var victim = In("victim");
        if (!dangling)
            File.WriteAllText(victim, "precious");
        File.CreateSymbolicLink(Target, victim);
        Explains(KvmErrorId.FileExists, () => StateFile.Write(Target, _states.Next(), replace: false));
        Explains(KvmErrorId.FileWriteFailed, () => StateFile.Write(Target, _states.Next(), replace: true));
        Assert.Equal(victim, new FileInfo(Target).LinkTarget);
        Assert.Equal(!dangling, File.Exists(victim) && File.ReadAllText(victim) == "precious");
    }

    [Fact]
    public void What_is_no_regular_file_is_neither_replaced_nor_read()
    {
        Directory.CreateDirectory(Target);
        Explains(KvmErrorId.FileWriteFailed, () => StateFile.Write(Target, _states.Next(), replace: true));
        Assert.Contains("no regular file", Explains(KvmErrorId.FileReadFailed, () => StateFile.Read(Target)).Message, StringComparison.Ordinal);

        // Who reads a pipe that nobody writes to waits.
        using var mkfifo = Process.Start("mkfifo", In("pipe"));
        mkfifo.WaitForExit();
        Explains(KvmErrorId.FileWriteFailed, () => StateFile.Write(In("pipe"), _states.Next(), replace: true));
        Explains(KvmErrorId.FileReadFailed, () => StateFile.Read(In("pipe")));
        Explains(KvmErrorId.FileReadFailed, () => StateFile.Read("/dev/zero"));
    }

    [Fact]
    public void Where_nothing_can_be_written_nothing_is_left()
    {
        Explains(KvmErrorId.FileNotFound, () => StateFile.Write(In("nowhere/web01.json"), _states.Next(), replace: false));
        Explains(KvmErrorId.FileWriteFailed, () => StateFile.Write("/proc/sys/web01.json", _states.Next(), replace: false));
        Explains(KvmErrorId.FileWriteFailed, () => StateFile.Write(In(new string('x', 300)), _states.Next(), replace: false));
        Assert.Empty(Directory.GetFileSystemEntries(_directory));
    }

    [Fact]
    public void A_state_that_cannot_be_restored_is_not_written()
    {
        var state = _states.Next().With(realtime: 0);
        Explains(KvmErrorId.InvalidValue, () => StateFile.Refuse(Target, state, replace: false));
        Explains(KvmErrorId.InvalidValue, () => StateFile.Write(Target, state, replace: false));
        Assert.Empty(Directory.GetFileSystemEntries(_directory));
    }

    [Fact]
    public void What_cannot_be_read_is_told_apart()
    {
        Explains(KvmErrorId.FileNotFound, () => StateFile.Read(Target));
        Explains(KvmErrorId.FileNotFound, () => StateFile.Read("/etc/passwd/web01.json"));
        Explains(KvmErrorId.FileReadFailed, () => StateFile.Read("/proc/self/mem"));
        File.WriteAllText(Target, "precious");
        Assert.StartsWith(Target, Explains(KvmErrorId.StateDocumentInvalid, () => StateFile.Read(Target)).Message, StringComparison.Ordinal);
        using (var stream = File.OpenWrite(Target))
            stream.SetLength(1L << 40);
        Explains(KvmErrorId.StateDocumentInvalid, () => StateFile.Read(Target));
    }

    private string In(string name) => Path.Combine(_directory, name);

    private void OnlyTargetIsThere() => Assert.Equal([Target], Directory.GetFileSystemEntries(_directory));

    private static KvmException Explains(KvmErrorId errorId, Action action)
    {
        var exception = Assert.Throws<KvmException>(action);
        Refusal.AssertExplains(exception, errorId);
        return exception;
    }
}
