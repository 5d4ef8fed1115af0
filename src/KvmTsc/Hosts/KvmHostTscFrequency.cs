using KvmTsc.Arithmetic;

namespace KvmTsc.Hosts;

/// <summary>What a host makes of a guest's TSC frequency.</summary>
public sealed class KvmHostTscFrequency
{
    internal KvmHostTscFrequency(KvmHostInformation host, uint tscKHz)
    {
        var ratio = host.HostTsc.RatioFor(tscKHz);
        MachineName = host.MachineName;
        HostTscKHz = host.TscKHz;
        MinimumTscKHz = host.HostTsc.LowestGuestKHz;
        MaximumTscKHz = host.HostTsc.HighestGuestKHz;
        ScalingRatio = ratio.Multiplier;
        ScalingFractionBits = ratio.FractionBits;
        UnscaledPpm = ratio.UnscaledPpm(tscKHz, host.TscKHz);
    }

    /// <summary>The host.</summary>
    public string? MachineName { get; }

    /// <summary>Its TSC frequency in kHz, as KVM uses it.</summary>
    public uint HostTscKHz { get; }

    /// <summary>The lowest frequency that it gives a guest, in kHz.</summary>
    public uint MinimumTscKHz { get; }

    /// <summary>The highest frequency that it gives a guest, in kHz.</summary>
    public uint MaximumTscKHz { get; }

    /// <summary>The multiplier of hardware scaling for the guest, <c>2^ScalingFractionBits</c> for one to one; 0 without hardware scaling.</summary>
    public ulong ScalingRatio { get; }

    /// <summary>The fraction bits of <see cref="ScalingRatio"/>: 48 on Intel, 32 on AMD, 0 without hardware scaling.</summary>
    public int ScalingFractionBits { get; }

    /// <summary>By how much faster than its frequency the guest's TSC runs there, in parts per million.</summary>
    public double UnscaledPpm { get; }
}
