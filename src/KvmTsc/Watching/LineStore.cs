using System.Globalization;
using KvmTsc.Hosts;
using KvmTsc.Migration;
using KvmTsc.States;

namespace KvmTsc.Watching;

/// <summary>
/// The lines of VMs by their names: what another process of the same VM gets, and, where they are kept in files, what the next watch knows. A line is a state
/// of this boot; a file of another one, or that is no state, is removed, since nothing can be told by it.
/// </summary>
internal sealed class LineStore
{
    private const int MostNames = 4096;
    private const UnixFileMode OwnerOnly = UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute;

    private readonly Lock _gate = new();
    private readonly string? _directory;
    private readonly Dictionary<string, List<KvmTscState>> _lines = [];
    private readonly Dictionary<KvmTscState, string> _files = [];

    private LineStore(string? directory) => _directory = directory;

    /// <summary>Opens one.</summary>
    /// <param name="directory">Where lines are kept; null if nowhere. It is made, for its owner only, if it is not there.</param>
    /// <param name="host">This host.</param>
    /// <exception cref="KvmException">The directory cannot be made or read.</exception>
    public static LineStore Open(string? directory, Func<KvmHostIdentity> host)
    {
        var store = new LineStore(directory);
        if (directory is null)
            return store;
        try
        {
            Directory.CreateDirectory(directory, OwnerOnly);
            var here = host();
            foreach (var file in Directory.GetFiles(directory, "*.kvmtsc.json").Order(StringComparer.Ordinal))
                store.Read(file, here);
            foreach (var lines in store._lines.Values)
                lines.Sort((one, other) => one.HostTsc.CompareTo(other.HostTsc));
            return store;
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            throw new KvmException(
                KvmErrorId.FileWriteFailed, $"Lines of clocks cannot be kept in {directory}: {exception.Message}", "Run as root, or give another -StatePath.", exception);
        }
    }

    /// <summary>The lines of a VM, newest last.</summary>
    public IReadOnlyList<KvmTscState> Of(string name)
    {
        lock (_gate)
            return [.. _lines.GetValueOrDefault(name) ?? []];
    }

    /// <summary>This host has slept: all lines are by the TSC that it has now, wherever they are kept.</summary>
    public void CarryOver(KvmHostIdentity here)
    {
        lock (_gate)
        {
            foreach (var (name, lines) in _lines.ToArray())
                _lines[name] = [.. lines.Select(line => CarriedOver(line, here))];
        }
    }

    private KvmTscState CarriedOver(KvmTscState line, KvmHostIdentity here)
    {
        var carried = line.CarriedOver(here);
        if (carried != line && _files.Remove(line, out var file))
            _files[carried] = file;
        return carried;
    }

    /// <summary>A VM has these lines now, newest last.</summary>
    /// <exception cref="KvmException">They cannot be written.</exception>
    public void Keep(string name, IReadOnlyList<KvmTscState> lines)
    {
        lock (_gate)
        {
            var before = _lines.GetValueOrDefault(name) ?? [];
            if (_lines.Count >= MostNames && !_lines.ContainsKey(name))
                return;
            _lines[name] = [.. lines];
            if (_directory is null)
                return;
            foreach (var line in lines.Where(line => !_files.ContainsKey(line)))
            {
                var file = FileOf(name, line);
                StateFile.Write(file, line, replace: true);
                _files[line] = file;
            }

            foreach (var forgotten in before.Except(lines))
                Remove(forgotten);
        }
    }

    private void Read(string file, KvmHostIdentity here)
    {
        try
        {
            var line = StateFile.Read(file);
            if (line.VMName is { } name && ClockLine.IsOneTsc(line, here, here.HostTsc ?? 0))
            {
                _files[line] = file;
                if (!_lines.TryGetValue(name, out var lines))
                    _lines.Add(name, lines = []);
                lines.Add(line);
                return;
            }
        }
        catch (KvmException exception) when (exception.ErrorId == KvmErrorId.FileReadFailed)
        {
            return; // the next watch may be able to
        }
        catch (KvmException)
        {
            // It is not whole, or another program's.
        }

        File.Delete(file);
    }

    private void Remove(KvmTscState line)
    {
        if (!_files.Remove(line, out var file))
            return;
        try
        {
            File.Delete(file);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            // The next watch tries it again: there are more than are looked at.
        }
    }

    /// <summary>A file name of any name of a VM: what may not be in one is by its number.</summary>
    private string FileOf(string name, KvmTscState line)
    {
        const int MostCharacters = 100;
        var safe = string.Concat(name.Select(letter => char.IsAsciiLetterOrDigit(letter) || letter is '-' or '_' ? $"{letter}" : string.Create(CultureInfo.InvariantCulture, $"%{(int)letter:X4}")));
        var cut = safe.Length > MostCharacters ? safe[..MostCharacters] : safe;
        return Path.Combine(_directory!, string.Create(CultureInfo.InvariantCulture, $"{cut}.{line.HostTsc:X16}.kvmtsc.json"));
    }
}
