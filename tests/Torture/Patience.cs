using System.Diagnostics;

namespace KvmTsc.Torture;

/// <summary>
/// Waiting that ends. It counts the waits of a second that it saw pass, rather than the time: an emulated host may stand still for minutes.
/// </summary>
internal static class Patience
{
    public const int Seconds = 120;

    public static bool Wait(Task task) => Wait(() => task.Wait(TimeSpan.FromSeconds(1)));

    public static bool Wait(Process process) => Wait(() => process.WaitForExit(TimeSpan.FromSeconds(1)));

    private static bool Wait(Func<bool> waitOneSecond)
    {
        for (var i = 0; i < Seconds; i++)
        {
            if (waitOneSecond())
                return true;
        }

        return false;
    }
}
