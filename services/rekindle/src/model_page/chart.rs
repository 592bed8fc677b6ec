//! An SVG line chart of quality over time. Its lines differ in their stroke as well as in their colour; the page names them, and adapts
//! the colours of texts and axes.

use chrono::{DateTime, Utc};
use plotters::{
    coord::types::RangedCoordf64,
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

/// One line: its style and its points in time order.
pub(crate) struct Line {
    pub stroke: Stroke,
    pub color: RGBColor,
    pub points: Vec<(DateTime<Utc>, f64)>,
}

/// The stroke of a line and the markers of its points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stroke {
    /// With circles.
    Solid,
    /// With squares.
    Dashed,
    /// With triangles.
    Dotted,
}

/// An event, drawn as a vertical line.
pub(crate) struct Mark {
    pub at: DateTime<Utc>,
    pub label: String,
}

/// Points of a line that have markers.
const MOST_MARKERS: usize = 120;

const SIZE: (u32, u32) = (1040, 380);

/// Draws the lines over the marks. `None` if there are fewer than two points.
pub(crate) fn lines(y_label: &str, lines: &[Line], marks: &[Mark]) -> Option<String> {
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
    lines: &[Line],
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
    for (index, mark) in marks.iter().filter(|mark| mark.at >= time.0 && mark.at <= time.1).enumerate() {
        draw_mark(&mut chart, index, mark, time, range)?;
    }
    for line in lines {
        draw_line(&mut chart, line)?;
    }
    root.present()?;
    Ok(())
}

type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedDateTime<DateTime<Utc>>, RangedCoordf64>>;

/// A vertical line with its label at the top, left of the line near the right end. Labels of neighbouring marks are at different heights.
fn draw_mark(
    chart: &mut Chart<'_, '_>,
    index: usize,
    mark: &Mark,
    time: (DateTime<Utc>, DateTime<Utc>),
    range: (f64, f64),
) -> DrawResult {
    const HEIGHTS: usize = 4;
    let grey = RGBColor(120, 120, 130);
    let line = PathElement::new(vec![(mark.at, range.0), (mark.at, range.1)], grey.mix(0.6).stroke_width(1));
    chart.draw_series(std::iter::once(line))?;
    let height = range.1 - (range.1 - range.0) * (0.005 + 0.045 * (index % HEIGHTS) as f64);
    let is_near_the_end = (time.1 - mark.at) * 10 < time.1 - time.0;
    let side = if is_near_the_end { HPos::Right } else { HPos::Left };
    let style = ("sans-serif", 12).into_font().color(&grey).pos(Pos::new(side, VPos::Top));
    let label = if is_near_the_end { format!("{} ", mark.label) } else { format!(" {}", mark.label) };
    chart.draw_series(std::iter::once(Text::new(label, (mark.at, height), style)))?;
    Ok(())
}

fn draw_line(chart: &mut Chart<'_, '_>, line: &Line) -> DrawResult {
    let points: Vec<(DateTime<Utc>, f64)> = line.points.iter().filter(|point| point.1.is_finite()).copied().collect();
    let (style, filled) = (line.color.stroke_width(2), line.color.filled());
    // Markers of more points would hide the line.
    let marked = if points.len() <= MOST_MARKERS { points.clone() } else { Vec::new() };
    match line.stroke {
        Stroke::Solid => {
            chart.draw_series(LineSeries::new(points.iter().copied(), style))?;
            chart.draw_series(marked.into_iter().map(|point| Circle::new(point, 3, filled)))?;
        }
        Stroke::Dashed => {
            chart.draw_series(DashedLineSeries::new(points.iter().copied(), 6, 4, style))?;
            let square = |point| EmptyElement::at(point) + Rectangle::new([(-3, -3), (3, 3)], filled);
            chart.draw_series(marked.into_iter().map(square))?;
        }
        Stroke::Dotted => {
            chart.draw_series(DashedLineSeries::new(points.iter().copied(), 2, 4, style))?;
            chart.draw_series(marked.into_iter().map(|point| TriangleMarker::new(point, 4, filled)))?;
        }
    }
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
        let line = |stroke, values: [f64; 3]| Line { stroke, color: RED, points: (0..).map(day).zip(values).collect() };
        let marks = [Mark { at: day(1), label: "version 2".into() }];
        let both = [line(Stroke::Dashed, [0.5, 0.6, 0.7]), line(Stroke::Solid, [0.5, f64::NAN, 0.4])];
        let svg = lines("log loss", &both, &marks).expect("enough points");
        for text in ["version 2", "log loss"] {
            assert!(svg.contains(text), "{text}");
        }
        assert_eq!(svg.matches("<circle").count(), 2);
        assert!(!svg.contains("NaN"));
        let dotted = lines("log loss", &[line(Stroke::Dotted, [0.5, 0.6, 0.7])], &[]).expect("enough points");
        assert_eq!(dotted.matches("<polygon").count(), 3, "{dotted}");
    }

    #[test]
    fn a_chart_requires_two_points() {
        assert!(
            lines("mae", &[Line { stroke: Stroke::Solid, color: RED, points: vec![(day(1), 1.0)] }], &[]).is_none()
        );
    }
}
