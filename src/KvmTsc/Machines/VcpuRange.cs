namespace KvmTsc.Machines;

/// <summary>vCPU ids as people write them: 0-3, 6.</summary>
public static class VcpuRange
{
    /// <summary>Writes ascending ids as ranges.</summary>
    public static string Format(IReadOnlyList<int> vcpuIds)
    {
        var parts = new List<string>();
        for (var first = 0; first < vcpuIds.Count;)
        {
            var last = first;
            while (last + 1 < vcpuIds.Count && vcpuIds[last + 1] == vcpuIds[last] + 1)
                last++;
            parts.Add(first == last ? $"{vcpuIds[first]}" : $"{vcpuIds[first]}-{vcpuIds[last]}");
            first = last + 1;
        }

        return string.Join(", ", parts);
    }
}
