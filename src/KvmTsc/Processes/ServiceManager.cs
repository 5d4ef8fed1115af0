using System.Net.Sockets;
using System.Text;

namespace KvmTsc.Processes;

/// <summary>Tells systemd, where it started this process, how it is: sd_notify(3).</summary>
public static class ServiceManager
{
    private const string Variable = "NOTIFY_SOCKET";

    /// <summary>Whether it started this process, and wants to be told.</summary>
    public static bool IsThere => Environment.GetEnvironmentVariable(Variable) is { Length: > 1 };

    /// <summary>Tells it; nothing happens where nobody wants to know, or it is not there any more.</summary>
    /// <param name="state">Assignments as in sd_notify(3), one on a line.</param>
    public static void Tell(string state)
    {
        if (!IsThere)
            return;
        var path = Environment.GetEnvironmentVariable(Variable)!;
        try
        {
            using var socket = new Socket(AddressFamily.Unix, SocketType.Dgram, ProtocolType.Unspecified);
            socket.SendTo(Encoding.UTF8.GetBytes(state), new UnixDomainSocketEndPoint(path[0] == '@' ? $"\0{path[1..]}" : path));
        }
        catch (SocketException)
        {
            // A watch does not end for that.
        }
    }
}
