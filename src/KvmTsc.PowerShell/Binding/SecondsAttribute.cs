using System.Globalization;
using System.Management.Automation;

namespace KvmTsc.PowerShell.Binding;

/// <summary>Takes a number for a time in seconds, which PowerShell would take for one in units of 100 ns.</summary>
[AttributeUsage(AttributeTargets.Property)]
public sealed class SecondsAttribute : ArgumentTransformationAttribute
{
    /// <inheritdoc/>
    public override object? Transform(EngineIntrinsics engineIntrinsics, object? inputData)
    {
        var value = inputData is PSObject wrapped ? wrapped.BaseObject : inputData;
        if (value is null)
            return null;
        if (value is not TimeSpan time)
        {
            if (!LanguagePrimitives.TryConvertTo<double>(value, CultureInfo.InvariantCulture, out var seconds))
                return inputData;
            if (!(seconds <= TimeSpan.MaxValue.TotalSeconds / 2))
                throw new ArgumentTransformationMetadataException($"{value} seconds are more than a TimeSpan can be.");
            time = TimeSpan.FromSeconds(seconds);
        }

        return time >= TimeSpan.Zero ? time : throw new ArgumentTransformationMetadataException($"A time of {time.TotalSeconds} s is negative.");
    }
}
