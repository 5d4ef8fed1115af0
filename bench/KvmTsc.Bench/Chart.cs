using System.Text.Json;
using OxyPlot;
using OxyPlot.Annotations;
using OxyPlot.Axes;
using OxyPlot.Series;

namespace KvmTsc.Bench;

/// <summary>The benchmark's rows as bars: how many times its goal each takes.</summary>
internal static class Chart
{
    private const int Width = 960, BarHeight = 26, Names = 400, Margin = 10, Axis = 50;

    private const double Least = 0.01, Room = 150;

    private static readonly OxyColor s_goal = OxyColor.FromRgb(0x33, 0x33, 0x33);

    public static void Draw(string table, string picture)
    {
        using var document = JsonDocument.Parse(File.ReadAllBytes(table));
        // The first row is to be at the top.
        var rows = document.RootElement.GetProperty("Rows").EnumerateArray().Where(row => row.GetProperty("OfGoal").ValueKind == JsonValueKind.Number).Reverse().ToArray();
        var model = new PlotModel
        {
            DefaultFontSize = 11,
            Background = OxyColors.White,
            PlotMargins = new OxyThickness(Names, Margin, Margin, Axis),
        };
        model.Axes.Add(new CategoryAxis { Position = AxisPosition.Left, ItemsSource = rows.Select(row => row.GetProperty("What").GetString()).ToArray(), GapWidth = 0.4 });
        model.Axes.Add(new LogarithmicAxis
        {
            Position = AxisPosition.Bottom,
            Title = "times the goal",
            StringFormat = "0.###",
            MajorGridlineStyle = LineStyle.Dot,
            Minimum = Least,
            Maximum = Room * Math.Max(1, rows.Max(TimesOf)),
        });
        var bars = new BarSeries { BaseValue = Least };
        model.Series.Add(bars);
        for (var i = 0; i < rows.Length; i++)
        {
            var times = TimesOf(rows[i]);
            var isMet = rows[i].GetProperty("Met").GetBoolean();
            bars.Items.Add(new BarItem(times, i) { Color = isMet ? Picture.Right : Picture.Wrong });
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
        Picture.Save(model, Width, Margin + Axis + (rows.Length * BarHeight), picture);
    }

    /// <summary>What is over a floor may be nothing, or less; the axis has no place for that.</summary>
    private static double TimesOf(JsonElement row) => Math.Max(Least, row.GetProperty("OfGoal").GetDouble());
}
