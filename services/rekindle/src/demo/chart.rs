//! An SVG line chart of quality over time.

use chrono::{DateTime, Utc};
use plotters::prelude::*;

/// One line: its name and its points in time order.
pub(crate) struct Line<'a> {
    pub name: &'a str,
    pub color: RGBColor,
    pub points: Vec<(DateTime<Utc>, f64)>,
}

/// An event, drawn as a vertical line.
pub(crate) struct Mark {
    pub at: DateTime<Utc>,
    pub label: String,
}

const SIZE: (u32, u32) = (1040, 380);

/// Draws the lines over the marks. `None` if there are fewer than two points.
pub(crate) fn lines(y_label: &str, lines: &[Line<'_>], marks: &[Mark]) -> Option<String> {
    let points = || lines.iter().flat_map(|line| &line.points).filter(|(_, y)| y.is_finite());
    let (first, last) = (points().map(|p| p.0).min()?, points().map(|p| p.0).max()?);
    let (low, high) = points().fold((f64::MAX, f64::MIN), |(low, high), p| (low.min(p.1), high.max(p.1)));
    if first >= last {
        return None;
    }
    let pad = ((high - low) * 0.12).max(1e-6);
    let mut svg = String::new();
    draw(&mut svg, y_label, lines, marks, (first, last), (low - pad, high + pad)).ok()?;
    Some(svg)
}

type DrawResult = Result<(), Box<dyn std::error::Error>>;

fn draw(
    svg: &mut String,
    y_label: &str,
    lines: &[Line<'_>],
    marks: &[Mark],
    time: (DateTime<Utc>, DateTime<Utc>),
    range: (f64, f64),
) -> DrawResult {
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    let mut chart = ChartBuilder::on(&root)
        .margin(12)
        .x_label_area_size(34)
        .y_label_area_size(58)
        .build_cartesian_2d(RangedDateTime::from(time.0..time.1), range.0..range.1)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.08))
        .axis_style(BLACK.mix(0.3))
        .label_style(("sans-serif", 13))
        .x_label_formatter(&|at| at.format("%Y-%m-%d").to_string())
        .y_desc(y_label)
        .draw()?;
    let grey = RGBColor(120, 120, 130);
    for mark in marks.iter().filter(|mark| mark.at >= time.0 && mark.at <= time.1) {
        chart.draw_series(std::iter::once(PathElement::new(
            vec![(mark.at, range.0), (mark.at, range.1)],
            grey.mix(0.6).stroke_width(1),
        )))?;
        chart.draw_series(std::iter::once(Text::new(
            mark.label.clone(),
            (mark.at, range.1 - (range.1 - range.0) * 0.02),
            ("sans-serif", 12).into_font().color(&grey),
        )))?;
    }
    for line in lines {
        let style = line.color.stroke_width(2);
        let key = line.color;
        chart
            .draw_series(LineSeries::new(line.points.iter().filter(|p| p.1.is_finite()).copied(), style))?
            .label(line.name)
            .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 18, y)], key.stroke_width(3)));
        chart.draw_series(
            line.points.iter().filter(|p| p.1.is_finite()).map(|&point| Circle::new(point, 3, key.filled())),
        )?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerLeft)
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.2))
        .label_font(("sans-serif", 13))
        .draw()?;
    root.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(n: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(n * 86_400, 0).expect("in range")
    }

    #[test]
    fn draws_each_line_and_mark() {
        let line = |name, values: [f64; 3]| Line { name, color: RED, points: (0..).map(day).zip(values).collect() };
        let marks = [Mark { at: day(1), label: "version 2".into() }];
        let svg = lines("log loss", &[line("static", [0.5, 0.6, 0.7]), line("live", [0.5, f64::NAN, 0.4])], &marks)
            .expect("enough points");
        for text in ["static", "live", "version 2", "log loss"] {
            assert!(svg.contains(text), "{text}");
        }
        assert!(!svg.contains("NaN"));
    }

    #[test]
    fn a_chart_requires_two_points() {
        assert!(lines("mae", &[Line { name: "a", color: RED, points: vec![(day(1), 1.0)] }], &[]).is_none());
    }
}
