using KvmTsc.Clocks;
using KvmTsc.Execution;
using KvmTsc.Interop;
using KvmTsc.Machines;

namespace KvmTsc.Tests.Semantics;

/// <summary>Ioctls without the engine's care.</summary>
internal static class Raw
{
    public const int EINVAL = 22;
    public const int ENXIO = 6;

    public static BatchOutcome Run(Machine machine, IoctlBatch batch) =>
        machine.Executor.WhileStopped(stop => stop.Run(batch), CancellationToken.None).Result;

    public static BatchOutcome SetClock(Machine machine, KvmClockData value)
    {
        var batch = new IoctlBatch();
        batch.SetClock(value);
        return Run(machine, batch);
    }

    public static KvmClockData GetClock(Machine machine)
    {
        var batch = new IoctlBatch();
        var clock = batch.GetClock();
        Assert.True(Run(machine, batch).Succeeded);
        return batch.Read(clock);
    }

    /// <summary>Sets a clock between two readings of it.</summary>
    public static (KvmClockData Before, KvmClockData After) SetClockBetweenReadings(Machine machine, Func<KvmClockData, KvmClockData> value)
    {
        var batch = new IoctlBatch();
        var before = batch.GetClock();
        batch.SetClock(value(GetClock(machine)));
        var after = batch.GetClock();
        Assert.True(Run(machine, batch).Succeeded);
        return (batch.Read(before), batch.Read(after));
    }

    public static void SetOffset(Machine machine, int vcpuId, ulong offset)
    {
        var batch = new IoctlBatch();
        batch.SetOffset(vcpuId, batch.Reserve(offset));
        Assert.True(Run(machine, batch).Succeeded);
    }

    public static ulong GetOffset(Machine machine, int vcpuId)
    {
        var batch = new IoctlBatch();
        var offset = batch.GetOffset(vcpuId);
        Assert.True(Run(machine, batch).Succeeded);
        return batch.Read(offset);
    }

    public static BatchOutcome SetTscKHz(Machine machine, int vcpuId, uint kHz)
    {
        var batch = new IoctlBatch();
        batch.SetTscKHz(vcpuId, kHz);
        return Run(machine, batch);
    }

    public static uint GetTscKHz(Machine machine, int vcpuId)
    {
        var batch = new IoctlBatch();
        var kHz = batch.GetTscKHz(vcpuId);
        Assert.True(Run(machine, batch).Succeeded);
        return (uint)batch.Read(kHz);
    }

    public static void SetMsr(Machine machine, int vcpuId, uint index, ulong value)
    {
        var batch = new IoctlBatch();
        var msr = batch.Reserve(new KvmMsr { Count = 1, Index = index, Data = value });
        batch.Add(new BatchStep(BatchStepKind.Ioctl, vcpuId, KvmRequest.SetMsrs, msr.Offset, ArgumentIsSlot: true));
        Assert.True(Run(machine, batch).Succeeded);
    }

    public static BatchOutcome HasAttribute(Machine machine, int vcpuId, uint group, ulong attribute)
    {
        var batch = new IoctlBatch();
        var slot = batch.Reserve(new KvmDeviceAttr { Group = group, Attribute = attribute });
        batch.Add(new BatchStep(BatchStepKind.Ioctl, vcpuId, KvmRequest.HasDeviceAttr, slot.Offset, ArgumentIsSlot: true));
        return Run(machine, batch);
    }
}
