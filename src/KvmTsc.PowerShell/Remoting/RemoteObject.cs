using System.Management.Automation;

namespace KvmTsc.PowerShell.Remoting;

/// <summary>Objects that came back from another host.</summary>
internal static class RemoteObject
{
    private const string ComputerName = "PSComputerName";

    /// <summary>
    /// Makes an object look as one that was made here: shown by the same view, with the names of what arrives as numbers. As PowerShell has it,
    /// the host that it came from is its PSComputerName.
    /// </summary>
    public static PSObject From<T>(PSObject remote, string host)
    {
        remote.TypeNames.Insert(0, typeof(T).FullName!);
        foreach (var property in typeof(T).GetProperties())
        {
            var type = Nullable.GetUnderlyingType(property.PropertyType) ?? property.PropertyType;
            if (type.IsEnum && remote.Properties[property.Name] is { Value: { } value } named)
                named.Value = LanguagePrimitives.ConvertTo(value, type, System.Globalization.CultureInfo.InvariantCulture);
        }

        if (remote.Properties[ComputerName] is null)
            remote.Properties.Add(new PSNoteProperty(ComputerName, host));
        return remote;
    }
}
