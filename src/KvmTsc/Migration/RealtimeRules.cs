using KvmTsc.Hosts;

namespace KvmTsc.Migration;

/// <summary>What CLOCK_REALTIME of two hosts has to be like for the time between them to be known.</summary>
internal static class RealtimeRules
{
    /// <summary>Refuses a host whose clock nobody keeps.</summary>
    public static void RefuseUnsynchronized(KvmHostIdentity host)
    {
        if (host.ClockSynchronized)
            return;
        throw new KvmException(
            KvmErrorId.ClockUnsynchronized,
            $"CLOCK_REALTIME of {host.MachineName} is not synchronised: the guest's clocks would be off by as much as that is.",
            "Have an NTP client synchronise it (timedatectl; chronyc tracking, and rtcsync in chrony.conf, without which chrony does not tell the kernel), then try again. Use -Force if it is known to be right.");
    }

    /// <summary>Refuses clocks that may be off by more than is allowed, together.</summary>
    public static void RefuseUncertain(KvmHostIdentity source, KvmHostIdentity destination, double maximumErrorMicroseconds)
    {
        var error = source.MaxErrorMicroseconds + destination.MaxErrorMicroseconds;
        if (error <= maximumErrorMicroseconds)
            return;
        throw new KvmException(
            KvmErrorId.ClockUncertain,
            FormattableString.Invariant(
                $"CLOCK_REALTIME of {source.MachineName} may be off by {source.MaxErrorMicroseconds} us, that of {destination.MachineName} by {destination.MaxErrorMicroseconds} us: together more than the {maximumErrorMicroseconds:0.###} us that are allowed."),
            "Let the NTP clients of both hosts settle, or use nearer servers (chronyc sources); systemd-timesyncd asks so rarely that its hosts are as good as chrony's only for minutes. Use -MaximumErrorMicroseconds or -Force if that is good enough.");
    }

    /// <summary>Refuses to take the time between two hosts by clocks between which there is a leap second.</summary>
    public static void RefuseTaiChange(KvmHostIdentity source, KvmHostIdentity destination)
    {
        if (TaiChangeSeconds(source, destination) == 0)
            return;
        throw new KvmException(
            KvmErrorId.TaiOffsetChanged,
            $"TAI is {source.TaiOffsetSeconds} s ahead of UTC by {source.MachineName}, {destination.TaiOffsetSeconds} s by {destination.MachineName}: there was a leap second in between, or one of them was told wrongly.",
            "Migrate when both have the leap second behind them, and see what their NTP clients say (adjtimex --print). Use -Force to be off by the difference.");
    }

    /// <summary>By how many seconds TAI is farther ahead of UTC by one host than by the other, 0 where one does not know.</summary>
    public static int TaiChangeSeconds(KvmHostIdentity source, KvmHostIdentity destination) => IsTaiUnknown(source) || IsTaiUnknown(destination)
        ? 0
        : Math.Abs(source.TaiOffsetSeconds - destination.TaiOffsetSeconds);

    /// <summary>Whether nobody told a host's kernel how far TAI is ahead of UTC.</summary>
    public static bool IsTaiUnknown(KvmHostIdentity host) => host.TaiOffsetSeconds == 0;
}
