using System.Runtime.InteropServices;
using KvmTsc.Interop;
using KvmTsc.Migration;

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
            throw ReadFailed(path, WholeFile.ReasonOf(exception), exception);
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
        WholeFile.Write(path, StateDocument.Write(state), OwnerOnly, replace);
    }

    /// <summary>Refuses what <see cref="Write"/> would refuse, as far as can be told without writing.</summary>
    /// <exception cref="KvmException">The file is there already, or cannot be, or no kernel can have given such a state.</exception>
    public static void Refuse(string path, KvmTscState state, bool replace)
    {
        state.Validate();
        if (!Directory.Exists(WholeFile.DirectoryOf(path)))
            throw NotFound($"There is no directory {WholeFile.DirectoryOf(path)}.");
        if (Find(path, followLinks: false, WholeFile.WriteFailed) is not { } file)
            return;
        if (!replace)
            throw WholeFile.Exists(path);
        if (!file.IsRegularFile)
            throw WholeFile.WriteFailed(path, "it is no regular file, and is not replaced");
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

    private static KvmException NotFound(string message) => new(KvmErrorId.FileNotFound, message, "See what is there with Get-ChildItem.");

    private static KvmException ReadFailed(string path, string why, Exception? exception = null) => new(
        KvmErrorId.FileReadFailed, $"{path} cannot be read: {why}.", "Give a file that this user may read (Get-Item, chmod).", exception);
}
