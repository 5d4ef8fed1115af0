using KvmTsc.Clocks;
using KvmTsc.Discovery;

namespace KvmTsc.Torture;

/// <summary>One attach, by a process that may have fewer rights. It prints "done" or the error's id, and then what there is to say.</summary>
internal static class Attempt
{
    public static int Run(int processId)
    {
        try
        {
            var machine = VMDiscovery.Of(processId).Single();
            var offsets = GuestTsc.ReadOffsets(machine, null, CancellationToken.None);
            Console.WriteLine($"done: {offsets.Count} offsets in {offsets[0].StoppedMicroseconds:0} us");
        }
        catch (KvmException exception)
        {
            Console.WriteLine($"{exception.ErrorId}: {exception.Message} {exception.RecommendedAction}");
        }

        return 0;
    }
}
