using System.Runtime.InteropServices;
using KvmTsc.Interop;
using Microsoft.Win32.SafeHandles;

namespace KvmTsc.States;

/// <summary>Writes files whole or not at all.</summary>
internal static class WholeFile
{
    /// <summary>Writes one, to a file beside, which then gets the name. A symbolic link is never followed.</summary>
    /// <param name="path">The file.</param>
    /// <param name="contents">What is to be in it.</param>
    /// <param name="mode">Who may read and write it.</param>
    /// <param name="replace">Replaces a file that is there.</param>
    /// <param name="lasts">Has it outlive a power failure, which takes its time.</param>
    /// <exception cref="KvmException">It was not written; what was there is as before.</exception>
    public static void Write(string path, ReadOnlySpan<byte> contents, UnixFileMode mode, bool replace, bool lasts = true)
    {
        var directory = DirectoryOf(path);
        var temporary = Path.Combine(directory, $".kvmtsc-{Guid.NewGuid():N}");
        try
        {
            WriteNew(temporary, contents, mode, lasts);
            Rename(temporary, path, replace);
            if (lasts)
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

    public static string DirectoryOf(string path) => Path.GetDirectoryName(Path.GetFullPath(path)) ?? "/";

    public static string ReasonOf(Exception exception) =>
        exception is UnauthorizedAccessException ? "permission denied" : exception.Message.TrimEnd('.');

    public static KvmException Exists(string path) => new(
        KvmErrorId.FileExists, $"There is a file {path} already.", "Choose another name, or use -Force to replace it.");

    public static KvmException WriteFailed(string path, string why, Exception? exception = null) => new(
        KvmErrorId.FileWriteFailed, $"{path} cannot be written: {why}.", "Choose a directory that has room and that this user may write to.", exception);

    private static void WriteNew(string path, ReadOnlySpan<byte> contents, UnixFileMode mode, bool lasts)
    {
        using var stream = new FileStream(path, new FileStreamOptions
        {
            Mode = FileMode.CreateNew,
            Access = FileAccess.Write,
            BufferSize = 0,
            UnixCreateMode = mode,
        });
        stream.Write(contents);
        stream.Flush(flushToDisk: lasts);
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
}
