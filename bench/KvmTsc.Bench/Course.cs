using System.Text.Json;
using OxyPlot;
using OxyPlot.Annotations;
using OxyPlot.Axes;
using OxyPlot.Series;

namespace KvmTsc.Bench;

/// <summary>By how much a guest's clock was off while it was paused, in each of the runs of the sample Invoke-QemuMigration.</summary>
internal static class Course
{
    private const int Width = 720, Height = 300, SecondsBefore = 20;

    public static void Draw(string courses, string picture)
    {
        using var document = JsonDocument.Parse(File.ReadAllBytes(courses));
        var model = new PlotModel { DefaultFontSize = 12, Background = OxyColors.White };
        model.Axes.Add(new LinearAxis { Position = AxisPosition.Bottom, Title = "seconds since the guest was paused" });
        model.Axes.Add(new LinearAxis { Position = AxisPosition.Left, Title = "seconds that its clock is off", MajorGridlineStyle = LineStyle.Dot, MinimumPadding = 0.1, MaximumPadding = 0.2 });
        foreach (var (run, colour) in document.RootElement.EnumerateArray().Zip([Picture.Wrong, Picture.Right]))
        {
            var line = new LineSeries { Color = colour, MarkerType = MarkerType.Circle, MarkerFill = colour, MarkerSize = 3 };
            line.Points.AddRange(run.GetProperty("Course").EnumerateArray()
                .Select(point => new DataPoint(point.GetProperty("Seconds").GetDouble(), point.GetProperty("Nanoseconds").GetDouble() / 1e9))
                .Where(point => point.X >= -SecondsBefore));
            model.Annotations.Add(new TextAnnotation
            {
                Text = run.GetProperty("Run").GetString(),
                TextColor = colour,
                TextPosition = line.Points[^1],
                TextHorizontalAlignment = HorizontalAlignment.Right,
                TextVerticalAlignment = VerticalAlignment.Bottom,
                Offset = new ScreenVector(0, -6),
                StrokeThickness = 0,
            });
            model.Series.Add(line);
        }

        Picture.Save(model, Width, Height, picture);
    }
}
