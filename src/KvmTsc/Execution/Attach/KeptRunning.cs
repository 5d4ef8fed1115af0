using System.Runtime.InteropServices;
using KvmTsc.Interop;

namespace KvmTsc.Execution.Attach;

/// <summary>
/// Keeps this process from standing still while it traces another one, which would stand still with it: a terminal's stop signals (Ctrl+Z) are left
/// unheeded, and what SIGSTOP stops is continued after half a second, by a timer of the kernel, which nobody stops. It goes on, since whoever is to extend it may be
/// kept from that for longer, and be stopped then.
/// </summary>
internal sealed class KeptRunning : IDisposable
{
    private const int SigCont = 18;
    private static readonly TimeSpan s_longest = TimeSpan.FromMilliseconds(500);

    private readonly PosixSignalRegistration[] _registrations =
        [.. from signal in new[] { PosixSignal.SIGTSTP, PosixSignal.SIGTTIN, PosixSignal.SIGTTOU } select PosixSignalRegistration.Create(signal, static context => context.Cancel = true)];

    private readonly int? _timer = LibC.CreateSignalTimer(SigCont);

    public KeptRunning() => Extend();

    /// <summary>To be called more often than every half second, or this process is continued that need not be, which does nothing.</summary>
    public void Extend()
    {
        if (_timer is { } timer)
            LibC.SetTimer(timer, s_longest);
    }

    public void Dispose()
    {
        if (_timer is { } timer)
            LibC.DeleteTimer(timer);
        foreach (var registration in _registrations)
            registration.Dispose();
    }
}
