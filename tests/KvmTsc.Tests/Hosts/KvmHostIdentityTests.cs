using KvmTsc.Hosts;

namespace KvmTsc.Tests.Hosts;

public sealed class KvmHostIdentityTests
{
    [Theory]
    [InlineData("a", "a", true)]
    [InlineData("a", "b", false)]
    [InlineData("a", null, false)]
    [InlineData(null, null, false)]
    public void Only_a_known_boot_is_the_same_boot(string? one, string? other, bool same) => Assert.Equal(same, Host(one).IsSameBoot(Host(other)));

    private static KvmHostIdentity Host(string? bootId) => new("host", null, bootId, "6.1", 1_000_000, 0, 0, 0, 37);
}
