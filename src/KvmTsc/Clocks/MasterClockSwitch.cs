using KvmTsc.Arithmetic;
using KvmTsc.Interop;

namespace KvmTsc.Clocks;

/// <summary>How the master clock was turned on: kvmclock as it was read, set to that, and read back.</summary>
/// <param name="Old">kvmclock before it was set.</param>
/// <param name="New">kvmclock after.</param>
/// <param name="SettingNanoseconds">The time in which it was read and set.</param>
/// <param name="HostKHz">The host's TSC frequency.</param>
internal sealed record MasterClockSwitch(KvmClockData Old, KvmClockData New, long SettingNanoseconds, uint HostKHz)
{
    /// <summary>
    /// By how much kvmclock was moved. With the triple before, KVM adds the real time that passed, and the TSC of both readings tells what
    /// is wrong with that. Without, kvmclock is held back by the time from its reading to its setting, which is no more than both took.
    /// </summary>
    public long JumpNanoseconds => Old.HasTriple
        ? TscArithmetic.Distance(Old.Clock + PvclockScale.ToNanoseconds(HostKHz).Apply(New.HostTsc - Old.HostTsc), New.Clock)
        : -SettingNanoseconds;
}
