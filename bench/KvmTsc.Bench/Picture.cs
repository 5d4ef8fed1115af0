using OxyPlot;

namespace KvmTsc.Bench;

/// <summary>What the pictures of docs have in common.</summary>
internal static class Picture
{
    /// <summary>Of what is as it should be.</summary>
    public static readonly OxyColor Right = OxyColor.FromRgb(0x2E, 0x7D, 0x5B);

    /// <summary>Of what is not.</summary>
    public static readonly OxyColor Wrong = OxyColor.FromRgb(0xD9, 0x7B, 0x29);

    public static void Save(PlotModel model, int width, int height, string file)
    {
        using var stream = File.Create(file);
        new SvgExporter { Width = width, Height = height }.Export(model, stream);
    }
}
