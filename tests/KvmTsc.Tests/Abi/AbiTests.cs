using System.ComponentModel;
using System.Diagnostics;
using System.Globalization;
using System.Reflection;
using System.Reflection.Emit;
using System.Runtime.CompilerServices;
using KvmTsc.Clocks;
using KvmTsc.Interop;

namespace KvmTsc.Tests.Abi;

/// <summary>
/// Everything in KvmTsc.Interop that the kernel or libc defines, against the system's headers: abi.c prints what they say. What stands in
/// Interop and not in abi.c fails as well.
/// </summary>
public sealed class AbiTests(AbiTests.Headers headers) : IClassFixture<AbiTests.Headers>
{
    private const BindingFlags All = BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.DeclaredOnly;

    public static TheoryData<string, ulong> Values
    {
        get
        {
            var data = new TheoryData<string, ulong>();
            foreach (var (name, value) in KvmRequest.All)
                data.Add(name, value);
            foreach (var (name, value) in Constants().Concat(Structures()))
                data.Add(name, value);
            return data;
        }
    }

    [Theory]
    [MemberData(nameof(Values))]
    public void A_value_is_that_of_the_systems_headers(string name, ulong value)
    {
        Assert.True(headers.Values.TryGetValue(name, out var theirs), $"tests/KvmTsc.Tests/Abi/abi.c does not print {name}: add it there.");
        Assert.Equal(theirs, value);
    }

    [Fact]
    public void Nothing_is_compared_that_is_not_used()
    {
        var ours = Values.Select(row => row.Data.Item1).ToHashSet(StringComparer.Ordinal);
        Assert.DoesNotContain(headers.Values.Keys, name => !ours.Contains(name));
    }

    [Fact]
    public void Every_request_has_its_kernel_name()
    {
        var requests = typeof(KvmRequest).GetFields(All | BindingFlags.Static).Where(field => field.FieldType == typeof(nuint)).ToArray();
        Assert.NotEmpty(requests);
        var named = KvmRequest.All.Select(pair => pair.Value).ToHashSet();
        Assert.All(requests, field => Assert.Contains((ulong)(nuint)field.GetValue(null)!, named));
        Assert.Equal("KVM_SET_CLOCK", KvmRequest.NameOf(0x4030AE7B));
        Assert.Equal("ioctl 0xAE55", KvmRequest.NameOf(0xAE55));
    }

    private static IEnumerable<Type> Types => typeof(KvmRequest).Assembly.GetTypes()
        .Where(type => type.Namespace == typeof(KvmRequest).Namespace && !type.IsDefined(typeof(CompilerGeneratedAttribute)));

    private static IEnumerable<(string Name, ulong Value)> Constants() =>
        from type in Types.Append(typeof(ClockIoctls))
        from field in type.GetFields(All | BindingFlags.Static)
        where field.IsLiteral
        select ($"{type.Name}.{field.Name}", Extended(field.GetRawConstantValue()!));

    /// <summary>A constant as C converts it to 64 bits.</summary>
    private static ulong Extended(object constant) =>
        constant is int number ? unchecked((ulong)number) : Convert.ToUInt64(constant, CultureInfo.InvariantCulture);

    private static IEnumerable<(string Name, ulong Value)> Structures()
    {
        foreach (var type in Types.Where(type => type is { IsValueType: true, IsEnum: false } && !type.IsDefined(typeof(InlineArrayAttribute))))
        {
            var name = type.DeclaringType is { } outer ? $"{outer.Name}.{type.Name}" : type.Name;
            yield return ($"sizeof({name})", SizeOf(type));
            foreach (var field in type.GetFields(All | BindingFlags.Instance))
            {
                yield return ($"offsetof({name}.{field.Name})", OffsetOf(type, field));
                yield return ($"sizeof({name}.{field.Name})", SizeOf(field.FieldType));
            }
        }
    }

    private static ulong SizeOf(Type type)
    {
        var method = typeof(Unsafe).GetMethod(nameof(Unsafe.SizeOf))!.MakeGenericMethod(type);
        return (ulong)(int)method.Invoke(null, null)!;
    }

    /// <summary>Where the runtime puts a field, which is what pointers see; marshalling, which Marshal.OffsetOf asks, does not happen here.</summary>
    private static ulong OffsetOf(Type type, FieldInfo field)
    {
        var method = new DynamicMethod("", typeof(ulong), null, typeof(AbiTests).Module, skipVisibility: true);
        var code = method.GetILGenerator();
        code.DeclareLocal(type);
        code.Emit(OpCodes.Ldloca_S, (byte)0);
        code.Emit(OpCodes.Ldflda, field);
        code.Emit(OpCodes.Conv_U);
        code.Emit(OpCodes.Ldloca_S, (byte)0);
        code.Emit(OpCodes.Conv_U);
        code.Emit(OpCodes.Sub);
        code.Emit(OpCodes.Conv_U8);
        code.Emit(OpCodes.Ret);
        return (ulong)method.Invoke(null, null)!;
    }

    /// <summary>What abi.c prints, compiled by this machine's compiler against this machine's headers.</summary>
    public sealed class Headers : IDisposable
    {
        private readonly DirectoryInfo _directory = Directory.CreateTempSubdirectory("kvmtsc-abi-");

        public Headers()
        {
            var program = Path.Combine(_directory.FullName, "abi");
            Run("cc", "-Wall", "-Werror", "-o", program, Path.Combine(AppContext.BaseDirectory, "Abi", "abi.c"));
            Values = Run(program).Split('\n', StringSplitOptions.RemoveEmptyEntries)
                .Select(line => line.LastIndexOf(' ') is var space ? (Name: line[..space], Value: line[(space + 1)..]) : default)
                .ToDictionary(line => line.Name, line => ulong.Parse(line.Value, CultureInfo.InvariantCulture));
        }

        public IReadOnlyDictionary<string, ulong> Values { get; }

        public void Dispose() => _directory.Delete(recursive: true);

        private static string Run(string program, params string[] arguments)
        {
            try
            {
                using var process = Process.Start(new ProcessStartInfo(program, arguments) { RedirectStandardOutput = true, RedirectStandardError = true })!;
                var errors = process.StandardError.ReadToEndAsync();
                var output = process.StandardOutput.ReadToEnd();
                process.WaitForExit();
                Assert.True(process.ExitCode == 0, $"{program} {string.Join(' ', arguments)}:\n{errors.GetAwaiter().GetResult()}\nInstall the compiler and the headers: apt-get install gcc libc6-dev linux-libc-dev");
                return output;
            }
            catch (Win32Exception exception)
            {
                Assert.Fail($"{program}: {exception.Message}. This test needs a C compiler and the system's headers: apt-get install gcc libc6-dev linux-libc-dev");
                throw;
            }
        }
    }
}
