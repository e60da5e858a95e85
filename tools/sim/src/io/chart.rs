//! How long requests took, one curve for each scheduler, as SVG.

use plotters::prelude::*;
use std::path::Path;

const COLOURS: [RGBColor; 7] = [
    RGBColor(90, 90, 90),
    RGBColor(140, 86, 75),
    RGBColor(31, 119, 180),
    RGBColor(255, 127, 14),
    RGBColor(148, 103, 189),
    RGBColor(44, 160, 44),
    RGBColor(214, 39, 40),
];

/// A scheduler's name, and (latency in ms, percent of the requests that took at most that).
pub type Curve<'a> = (&'a str, Vec<(f64, f64)>);

/// Draws the curves to a file.
pub fn draw(file: &Path, title: &str, curves: &[Curve<'_>]) -> Result<(), String> {
    try_draw(file, title, curves).map_err(|error| format!("{}: {error}", file.display()))
}

fn try_draw(file: &Path, title: &str, curves: &[Curve<'_>]) -> Result<(), Box<dyn std::error::Error>> {
    let all = curves.iter().flat_map(|(_, points)| points.iter().map(|point| point.0));
    let (low, high) = all.fold((f64::MAX, 0.1), |(low, high), ms| (ms.min(low), ms.max(high)));
    let low = low.clamp(0.01, high / 2.0);
    let area = SVGBackend::new(file, (900, 480)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(52)
        .build_cartesian_2d((low..high * 1.2).log_scale(), 0.0..100.0)?;
    chart
        .configure_mesh()
        .x_desc("latency, ms")
        .y_desc("requests that took at most so long, %")
        .x_label_formatter(&|ms| format!("{ms}"))
        .light_line_style(WHITE)
        .draw()?;
    for ((name, points), colour) in curves.iter().zip(COLOURS.iter().cycle()) {
        chart
            .draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?
            .label(*name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK)
        .draw()?;
    area.present()?;
    Ok(())
}
