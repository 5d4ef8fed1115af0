using System.Diagnostics;
using System.Text.RegularExpressions;
using KvmTsc.Execution.Attach;

namespace KvmTsc.Tests.Attach;

/// <summary>The bytes in Payload.cs are what payload.S says.</summary>
public sealed class PayloadTests
{
    private static readonly string s_source = Path.Combine(AppContext.BaseDirectory, "Attach", "payload.S");

    [Fact]
    public void The_program_is_what_its_source_assembles_to()
    {
        var directory = Directory.CreateTempSubdirectory("kvmtsc-payload-");
        try
        {
            var binary = Path.Combine(directory.FullName, "payload");
            using var assembler = Process.Start("cc", ["-c", "-o", binary + ".o", s_source]);
            assembler.WaitForExit();
            Assert.True(assembler.ExitCode == 0, "cc cannot assemble payload.S. Install a C compiler: apt-get install gcc");
            using var copier = Process.Start("objcopy", ["-O", "binary", "-j", ".text", binary + ".o", binary]);
            copier.WaitForExit();
            Assert.True(copier.ExitCode == 0, "objcopy cannot take out the code. Install it: apt-get install binutils");
            Assert.Equal(File.ReadAllBytes(binary), Payload.Program.ToArray());
        }
        finally
        {
            directory.Delete(recursive: true);
        }
    }

    [Theory]
    [InlineData("FAILED", Payload.Failed)]
    [InlineData("ERROR", Payload.Error)]
    [InlineData("STEPS", Payload.Steps)]
    [InlineData("STEPS_END", Payload.StepsEnd)]
    [InlineData("UNDO", Payload.Undo)]
    [InlineData("UNDO_END", Payload.UndoEnd)]
    [InlineData("UNDO_ERRORS", Payload.UndoErrors)]
    [InlineData("MEMORY", Payload.Memory)]
    [InlineData("HOLDS", Payload.Holds)]
    [InlineData("RELEASES", Payload.Releases)]
    [InlineData("HOLD_COUNT", Payload.HoldCount)]
    [InlineData("PROCESS", Payload.Process)]
    [InlineData("THREAD", Payload.Thread)]
    [InlineData("SIGNAL", Payload.Signal)]
    [InlineData("FRAME", Payload.Frame)]
    [InlineData("NOWHERE", Payload.Nowhere)]
    [InlineData("STEP_SIZE", Payload.StepSize)]
    public void Both_sides_agree_on_the_layout(string name, int offset)
    {
        var match = Regex.Match(File.ReadAllText(s_source), $@"\.set {name}, +(\d+)");
        Assert.True(match.Success, $"payload.S has no {name}.");
        Assert.Equal(offset, int.Parse(match.Groups[1].Value, System.Globalization.CultureInfo.InvariantCulture));
    }

    [Fact]
    public void The_program_ends_before_the_holds()
    {
        Assert.True(Payload.Program.Length <= Payload.HoldOffset(0));
        Assert.True(Payload.HoldOffset(Payload.MaximumHolds) <= Payload.DataOffset);
    }
}
