using System.Text.Json;
using OxyPlot;
using OxyPlot.Annotations;
using OxyPlot.Axes;
using OxyPlot.Series;

namespace KvmTsc.Bench;

/// <summary>The benchmark's rows as bars: how many times its goal each takes.</summary>
internal static class Chart
{
    private const int Width = 960, BarHeight = 26, Names = 400, Above = 40, Below = 50;

    private static readonly OxyColor s_met = OxyColor.FromRgb(0x2E, 0x7D, 0x5B), s_over = OxyColor.FromRgb(0xD9, 0x7B, 0x29), s_goal = OxyColor.FromRgb(0x33, 0x33, 0x33);

    public static void Draw(string table, string picture)
    {
        using var document = JsonDocument.Parse(File.ReadAllBytes(table));
        // The first row is to be at the top.
        var rows = document.RootElement.GetProperty("Rows").EnumerateArray().Where(row => row.GetProperty("OfGoal").ValueKind == JsonValueKind.Number).Reverse().ToArray();
        var model = new PlotModel
        {
            Title = "What each takes, by its goal",
            TitleFontSize = 14,
            DefaultFontSize = 11,
            Background = OxyColors.White,
            PlotMargins = new OxyThickness(Names, Above, 10, Below),
        };
        model.Axes.Add(new CategoryAxis { Position = AxisPosition.Left, ItemsSource = rows.Select(row => row.GetProperty("What").GetString()).ToArray(), GapWidth = 0.4 });
        model.Axes.Add(new LogarithmicAxis { Position = AxisPosition.Bottom, Title = "times the goal", StringFormat = "0.###", MajorGridlineStyle = LineStyle.Dot, Minimum = LeastOf(rows) / 2, Maximum = MostOf(rows) * 20 });
        var bars = new BarSeries { BaseValue = LeastOf(rows) / 2 };
        model.Series.Add(bars);
        for (var i = 0; i < rows.Length; i++)
        {
            var times = rows[i].GetProperty("OfGoal").GetDouble();
            var isMet = rows[i].GetProperty("Met").GetBoolean();
            bars.Items.Add(new BarItem(times, i) { Color = isMet ? s_met : s_over });
            model.Annotations.Add(new TextAnnotation
            {
                Text = $"{rows[i].GetProperty("Told").GetString()}{(isMet ? "" : ", OVER")}",
                TextPosition = new DataPoint(times, i),
                TextHorizontalAlignment = HorizontalAlignment.Left,
                TextVerticalAlignment = VerticalAlignment.Middle,
                Offset = new ScreenVector(4, 0),
                StrokeThickness = 0,
            });
        }

        model.Annotations.Add(new LineAnnotation { Type = LineAnnotationType.Vertical, X = 1, Color = s_goal, Text = "goal" });
        using var stream = File.Create(picture);
        new SvgExporter { Width = Width, Height = Above + Below + (rows.Length * BarHeight) }.Export(model, stream);
    }

    private static double LeastOf(JsonElement[] rows) => Math.Min(1, rows.Min(row => row.GetProperty("OfGoal").GetDouble()));

    private static double MostOf(JsonElement[] rows) => Math.Max(1, rows.Max(row => row.GetProperty("OfGoal").GetDouble()));
}
