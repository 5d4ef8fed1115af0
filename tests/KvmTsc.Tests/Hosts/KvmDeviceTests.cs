using System.Runtime.InteropServices;
using KvmTsc.Hosts;
using KvmTsc.Tests.Simulation;

namespace KvmTsc.Tests.Hosts;

/// <summary>A device that cannot be used. One that can be is in the tier Kvm.</summary>
public sealed partial class KvmDeviceTests
{
    private const int Nobody = 65534;

    [Fact]
    public void A_device_that_does_not_exist_is_named_with_what_to_load()
    {
        var exception = Refused("/nonexistent/kvm", KvmErrorId.NoKvmDevice);
        Assert.Contains("/nonexistent/kvm", exception.Message, StringComparison.Ordinal);
        Assert.Contains("modprobe", exception.RecommendedAction, StringComparison.Ordinal);
        Assert.Equal(2, exception.ErrorNumber);
    }

    [Fact]
    public void A_device_that_may_not_be_opened_is_named_with_the_group_to_join()
    {
        var path = Path.GetTempFileName();
        try
        {
            Assert.Equal(0, ChangeMode(path, 0));
            var exception = AsNobody(() => Refused(path, KvmErrorId.KvmAccessDenied));
            Assert.Contains(path, exception.Message, StringComparison.Ordinal);
            Assert.Contains("group kvm", exception.RecommendedAction, StringComparison.Ordinal);
            Assert.Equal(13, exception.ErrorNumber);
        }
        finally
        {
            File.Delete(path);
        }
    }

    [Theory]
    [InlineData("/dev/null")]
    [InlineData("/dev/zero")]
    public void A_device_that_is_not_KVM_is_refused(string path)
    {
        var exception = Refused(path, KvmErrorId.KvmApiVersion);
        Assert.Contains(path, exception.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_directory_is_refused_with_the_systems_error()
    {
        Assert.Equal(21, Refused("/", KvmErrorId.SystemCallFailed).ErrorNumber);
    }

    private static KvmException Refused(string path, KvmErrorId errorId)
    {
        var exception = Assert.Throws<KvmException>(() => KvmDevice.Open(path));
        Refusal.AssertExplains(exception, errorId);
        return exception;
    }

    /// <summary>Runs something as a user who may nothing: on Linux the file system's user belongs to a thread, and leaving root drops its rights.</summary>
    private static T AsNobody<T>(Func<T> action)
    {
        T? result = default;
        Exception? failure = null;
        var thread = new Thread(() =>
        {
            _ = SetFileSystemUser(Nobody);
            try
            {
                result = action();
            }
            catch (Exception exception)
            {
                failure = exception;
            }
        });
        thread.Start();
        thread.Join();
        return failure is null ? result! : throw failure;
    }

    [LibraryImport("libc", EntryPoint = "chmod", StringMarshalling = StringMarshalling.Utf8)]
    private static partial int ChangeMode(string path, uint mode);

    [LibraryImport("libc", EntryPoint = "setfsuid")]
    private static partial int SetFileSystemUser(int user);
}
