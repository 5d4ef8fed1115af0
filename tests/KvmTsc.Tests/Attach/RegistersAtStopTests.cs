using KvmTsc.Execution.Attach;
using KvmTsc.Interop;

namespace KvmTsc.Tests.Attach;

/// <summary>What can be told of a thread by its registers, as the kernel leaves them: arch/x86/kernel/signal.c, arch_do_signal_or_restart.</summary>
public sealed class RegistersAtStopTests
{
    private const ulong None = ulong.MaxValue;
    private const ulong Nanosleep = 35;
    private const ulong Restart = 219;
    private const ulong Read = 0;
    private static readonly ulong s_restartsByBlock = unchecked((ulong)-Errno.ERESTART_RESTARTBLOCK);
    private static readonly ulong s_restarts = unchecked((ulong)-Errno.ERESTARTSYS);

    [Fact]
    public void A_sleep_that_has_just_been_interrupted_carries_nothing() => Assert.True(RankOf(Nanosleep, s_restartsByBlock) < 0);

    [Theory]
    [InlineData(Nanosleep)] // on its way out of the kernel
    [InlineData(Restart)] // again, having been restarted before
    [InlineData(None)] // before the instruction
    public void Nor_does_one_that_is_about_to_be_restarted(ulong call) => Assert.True(RankOf(call, Restart) < 0);

    [Fact]
    public void Any_other_call_may_carry()
    {
        Assert.True(RankOf(Read, s_restarts) >= 0);
        Assert.True(RankOf(Nanosleep, 0) >= 0);
    }

    private static int RankOf(ulong call, ulong result) => RegistersAtStop.CarrierRankOf(new UserRegs { OrigRax = call, Rax = result });
}
