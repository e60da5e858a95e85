//! Hit ratio over cache size, one curve for each policy, as SVG.

use super::Outcome;
use plotters::prelude::*;
use std::path::Path;

const COLOURS: [RGBColor; 10] = [
    RGBColor(31, 119, 180),
    RGBColor(214, 39, 40),
    RGBColor(44, 160, 44),
    RGBColor(148, 103, 189),
    RGBColor(140, 86, 75),
    RGBColor(255, 127, 14),
    RGBColor(227, 119, 194),
    RGBColor(23, 190, 207),
    RGBColor(90, 90, 90),
    RGBColor(188, 189, 34),
];

/// Draws the curves to a file; `sizes` says what [`Outcome::size`] is of.
pub fn draw(file: &Path, title: &str, sizes: &str, curves: &[(&str, Vec<Outcome>)]) -> Result<(), String> {
    try_draw(file, title, sizes, curves).map_err(|error| format!("{}: {error}", file.display()))
}

fn try_draw(
    file: &Path,
    title: &str,
    size_name: &str,
    curves: &[(&str, Vec<Outcome>)],
) -> Result<(), Box<dyn std::error::Error>> {
    let sizes = curves.iter().flat_map(|(_, outcomes)| outcomes.iter().map(|one| one.size as f64));
    let (low, high) = sizes.fold((f64::MAX, 1.0), |(low, high), size| (size.min(low), size.max(high)));
    let top =
        curves.iter().flat_map(|(_, outcomes)| outcomes.iter().map(Outcome::percent)).fold(1.0, f64::max);
    let area = SVGBackend::new(file, (900, 560)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(format!("Hit ratio, {title}"), ("sans-serif", 22))
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(52)
        .build_cartesian_2d((low..high.max(low * 2.0)).log_scale(), 0.0..(top * 1.05).min(100.0))?;
    chart
        .configure_mesh()
        .x_desc(size_name)
        .y_desc("hit ratio, %")
        .x_label_formatter(&|size| format!("{size:.0}"))
        .light_line_style(WHITE)
        .draw()?;
    for ((name, outcomes), colour) in curves.iter().zip(COLOURS.iter().cycle()) {
        let points: Vec<(f64, f64)> = outcomes.iter().map(|one| (one.size as f64, one.percent())).collect();
        chart
            .draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?
            .label(*name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
        chart.draw_series(points.iter().map(|point| Circle::new(*point, 3, colour.filled())))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    area.present()?;
    Ok(())
}
