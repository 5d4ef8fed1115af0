using System.Runtime.InteropServices;
using KvmTsc.Interop;
using KvmTsc.Migration;
using Microsoft.Win32.SafeHandles;

namespace KvmTsc.States;

/// <summary>States in files.</summary>
public static class StateFile
{
    private const UnixFileMode OwnerOnly = UnixFileMode.UserRead | UnixFileMode.UserWrite;

    /// <summary>Reads a state.</summary>
    /// <exception cref="KvmException">There is no such file, it cannot be read, or it is no state that can be restored.</exception>
    public static KvmTscState Read(string path)
    {
        var file = Find(path, followLinks: true, ReadFailed) ?? throw NotFound($"There is no file {path}.");
        if (!file.IsRegularFile)
            throw ReadFailed(path, "it is no regular file");
        if (file.Size > StateDocument.MaximumBytes)
            throw StateDocument.Invalid(path, $"it has {file.Size} bytes, more than {StateDocument.MaximumBytes}");
        try
        {
            return StateDocument.Read(File.ReadAllBytes(path), path);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            throw ReadFailed(path, ReasonOf(exception), exception);
        }
    }

    /// <summary>
    /// Writes a state, readable by its owner only, all of it or nothing: to a file beside, which then gets the name. A symbolic link is never
    /// followed.
    /// </summary>
    /// <param name="path">The file.</param>
    /// <param name="state">The state.</param>
    /// <param name="replace">Replaces a file that is there.</param>
    /// <exception cref="KvmException">It was not written; what was there is as before.</exception>
    public static void Write(string path, KvmTscState state, bool replace)
    {
        Refuse(path, state, replace);
        var document = StateDocument.Write(state);
        var directory = DirectoryOf(path);
        var temporary = Path.Combine(directory, $".kvmtsc-{Guid.NewGuid():N}");
        try
        {
            WriteNew(temporary, document);
            Rename(temporary, path, replace);
            Settle(directory);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            throw WriteFailed(path, ReasonOf(exception), exception);
        }
        finally
        {
            Discard(temporary);
        }
    }

    /// <summary>Refuses what <see cref="Write"/> would refuse, as far as can be told without writing.</summary>
    /// <exception cref="KvmException">The file is there already, or cannot be, or no kernel can have given such a state.</exception>
    public static void Refuse(string path, KvmTscState state, bool replace)
    {
        state.Validate();
        if (!Directory.Exists(DirectoryOf(path)))
            throw NotFound($"There is no directory {DirectoryOf(path)}.");
        if (Find(path, followLinks: false, WriteFailed) is not { } file)
            return;
        if (!replace)
            throw Exists(path);
        if (!file.IsRegularFile)
            throw WriteFailed(path, "it is no regular file, and is not replaced");
    }

    private static void WriteNew(string path, byte[] contents)
    {
        using var stream = new FileStream(path, new FileStreamOptions
        {
            Mode = FileMode.CreateNew,
            Access = FileAccess.Write,
            BufferSize = 0,
            UnixCreateMode = OwnerOnly,
        });
        stream.Write(contents);
        stream.Flush(flushToDisk: true);
    }

    private static void Rename(string from, string to, bool replace)
    {
        var result = LibC.Rename(from, to, replace ? 0 : LibC.RENAME_NOREPLACE);

        // NFS and others do not know the flag. A link, too, never replaces what is there.
        if (result == -Errno.EINVAL && !replace)
            result = LibC.Link(from, to);
        if (result == -Errno.EEXIST)
            throw Exists(to);
        if (result < 0)
            throw WriteFailed(to, Marshal.GetPInvokeErrorMessage(-result));
    }

    /// <summary>Has the directory's new entry outlive a power failure, where that can be had.</summary>
    private static void Settle(string directory)
    {
        var descriptor = LibC.Open(directory, LibC.O_DIRECTORY | LibC.O_CLOEXEC);
        if (descriptor < 0)
            return;
        using var handle = new SafeFileHandle(descriptor, ownsHandle: true);
        try
        {
            RandomAccess.FlushToDisk(handle);
        }
        catch (IOException)
        {
            // The file is there and whole; there is nothing to be undone.
        }
    }

    private static void Discard(string temporary)
    {
        try
        {
            File.Delete(temporary);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            // What kept it from being written keeps it from being deleted; the error that is under way says so.
        }
    }

    private static Statx? Find(string path, bool followLinks, Func<string, string, Exception?, KvmException> failed)
    {
        var result = LibC.Stat(path, followLinks ? 0 : LibC.AT_SYMLINK_NOFOLLOW, out var file);
        return result switch
        {
            0 => file,
            -Errno.ENOENT or -Errno.ENOTDIR => null,
            _ => throw failed(path, Marshal.GetPInvokeErrorMessage(-result), null),
        };
    }

    private static string DirectoryOf(string path) => Path.GetDirectoryName(Path.GetFullPath(path)) ?? "/";

    private static string ReasonOf(Exception exception) =>
        exception is UnauthorizedAccessException ? "permission denied" : exception.Message.TrimEnd('.');

    private static KvmException NotFound(string message) => new(KvmErrorId.FileNotFound, message, "See what is there with Get-ChildItem.");

    private static KvmException Exists(string path) => new(
        KvmErrorId.FileExists, $"There is a file {path} already.", "Choose another name, or use -Force to replace it.");

    private static KvmException ReadFailed(string path, string why, Exception? exception = null) => new(
        KvmErrorId.FileReadFailed, $"{path} cannot be read: {why}.", "Give a file that this user may read (Get-Item, chmod).", exception);

    private static KvmException WriteFailed(string path, string why, Exception? exception = null) => new(
        KvmErrorId.FileWriteFailed, $"{path} cannot be written: {why}.", "Choose a directory that has room and that this user may write to.", exception);
}
