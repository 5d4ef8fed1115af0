using Mono.Cecil;
using Mono.Cecil.Cil;

namespace KvmTsc.Tests.Architecture;

/// <summary>
/// A cmdlet may count, but not calculate: all arithmetic on clocks, of 64 bits and more, of frequencies and of fractions, is the engine's. So
/// what adds, subtracts, multiplies, divides or shifts anything but an int is taken for that.
/// </summary>
public sealed class CmdletTests
{
    private static readonly string[] s_cmdlets = ["KvmTsc.PowerShell.Commands", "KvmTsc.PowerShell.Remoting"];

    private static readonly HashSet<string> s_wide = ["System.Int128", "System.UInt128", "System.Numerics.BigInteger", "System.Decimal", "System.Half"];

    [Fact]
    public void A_cmdlet_does_no_arithmetic()
    {
        var code = Assemblies.Code.Where(type => s_cmdlets.Contains(Assemblies.NamespaceOf(type))).ToArray();
        Assert.NotEmpty(code);
        var arithmetic =
            from type in code
            from method in type.Methods
            where method.HasBody
            from instruction in method.Body.Instructions
            where IsArithmetic(instruction, method)
            select $"{method.FullName}: {instruction}";
        Assemblies.AssertNone(arithmetic);
    }

    [Fact]
    public void A_cmdlet_uses_none_of_the_arithmetic()
    {
        var uses =
            from type in Assemblies.Types.Types
            where s_cmdlets.Contains(type.Namespace.FullName)
            from dependency in type.Dependencies
            where dependency.Target.Namespace?.FullName == "KvmTsc.Arithmetic"
            select $"{type.FullName} uses {dependency.Target.FullName}";
        Assemblies.AssertNone(uses);
    }

    private static bool IsArithmetic(Instruction instruction, MethodDefinition method) => instruction.OpCode.Code switch
    {
        Code.Add or Code.Add_Ovf or Code.Add_Ovf_Un or Code.Sub or Code.Sub_Ovf or Code.Sub_Ovf_Un or Code.Mul or Code.Mul_Ovf or Code.Mul_Ovf_Un
            or Code.Div or Code.Div_Un or Code.Rem or Code.Rem_Un or Code.Neg or Code.Shl or Code.Shr or Code.Shr_Un => !IsOfInts(instruction, method),
        Code.Call or Code.Callvirt => instruction.Operand is MethodReference called && called.Name.StartsWith("op_", StringComparison.Ordinal)
            && s_wide.Contains(called.DeclaringType.FullName) && called.Name is not ("op_Equality" or "op_Inequality"),
        _ => false,
    };

    /// <summary>
    /// Whether the operands are ints: both are of one type, or the second is a constant. What cannot be told is no int.
    /// </summary>
    private static bool IsOfInts(Instruction operation, MethodDefinition method)
    {
        var second = operation.Previous;
        var told = second is not null && IsConstantInt(second) && second.Previous is { } first ? first : second;
        return told is not null && (IsConstantInt(told) || TypeOf(told, method) is "System.Int32" or "System.Char");
    }

    private static bool IsConstantInt(Instruction instruction) => instruction.OpCode.Name.StartsWith("ldc.i4", StringComparison.Ordinal);

    /// <summary>The type of what an instruction leaves.</summary>
    private static string? TypeOf(Instruction instruction, MethodDefinition method) => instruction.OpCode.Code switch
    {
        Code.Conv_I4 => "System.Int32",
        Code.Dup when instruction.Previous is { } before => TypeOf(before, method),
        Code.Add or Code.Sub or Code.Mul => IsOfInts(instruction, method) ? "System.Int32" : null,
        Code.Call or Code.Callvirt => ((MethodReference)instruction.Operand).ReturnType.FullName,
        Code.Ldfld or Code.Ldsfld => ((FieldReference)instruction.Operand).FieldType.FullName,
        Code.Ldloc_0 => method.Body.Variables[0].VariableType.FullName,
        Code.Ldloc_1 => method.Body.Variables[1].VariableType.FullName,
        Code.Ldloc_2 => method.Body.Variables[2].VariableType.FullName,
        Code.Ldloc_3 => method.Body.Variables[3].VariableType.FullName,
        Code.Ldloc or Code.Ldloc_S => ((VariableReference)instruction.Operand).VariableType.FullName,
        Code.Ldarg or Code.Ldarg_S => ((ParameterReference)instruction.Operand).ParameterType.FullName,
        _ => null,
    };
}
