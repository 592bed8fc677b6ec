//! Quality over time: a chart of two lines, and the same as a table.

use chrono::{DateTime, Utc};
use plotters::style::RGBColor;
use rekindle_domain::{
    model_version::ModelVersion,
    report::{Quality as Scored, Verdict, WindowReport},
};

use super::{
    by_window,
    chart::{self, Line, Mark, Stroke},
    format::{day, grouped, number},
};

/// The colours of the two lines, which the style sheet replaces in dark mode.
const BASELINE: RGBColor = RGBColor(100, 116, 143);
const LIVE: RGBColor = RGBColor(194, 65, 12);

/// The section of the quality.
pub(crate) struct Quality {
    /// Name of the score; lower is better.
    pub metric: &'static str,
    /// Name of the dashed line.
    pub baseline: &'static str,
    /// Name of the solid line.
    pub live: &'static str,
    pub chart: Option<String>,
    pub rows: Vec<QualityRow>,
    /// What the lines and marks mean.
    pub note: &'static str,
}

/// One window.
pub(crate) struct QualityRow {
    pub from: String,
    pub rows: String,
    pub baseline: String,
    pub live: String,
    pub versions: String,
    pub verdict: String,
}

/// The scores of one window.
pub(crate) struct Point {
    pub from: DateTime<Utc>,
    pub rows: u64,
    pub baseline: Option<f64>,
    pub live: Option<f64>,
    pub versions: String,
    /// Empty if the monitor has none.
    pub verdict: String,
}

impl Quality {
    /// The section of these windows. `takeovers` has each version with the time at which it first answered.
    pub(crate) fn new(
        metric: &'static str,
        [baseline, live]: [&'static str; 2],
        points: &[Point],
        takeovers: &[(u32, DateTime<Utc>)],
        note: &'static str,
    ) -> Self {
        let line = |stroke, color, score: fn(&Point) -> Option<f64>| {
            let points = points.iter().filter_map(|point| Some((point.from, score(point)?))).collect();
            Line { stroke, color, points }
        };
        let lines =
            [line(Stroke::Dashed, BASELINE, |point| point.baseline), line(Stroke::Solid, LIVE, |point| point.live)];
        let mark = |&(version, at): &(u32, _)| Mark { at, label: format!("version {version}") };
        let marks: Vec<Mark> = takeovers.iter().map(mark).collect();
        let row = |point: &Point| QualityRow {
            from: day(point.from),
            rows: grouped(point.rows),
            baseline: number(point.baseline),
            live: number(point.live),
            versions: point.versions.clone(),
            verdict: point.verdict.clone(),
        };
        let (chart, rows) = (chart::lines(metric, &lines, &marks), points.iter().map(row).collect());
        Self { metric, baseline, live, chart, rows, note }
    }

    /// The section of the windows whose outcomes have arrived.
    pub(super) fn of_reports(reports: &[WindowReport], versions: &[ModelVersion]) -> Self {
        let windows = by_window(reports);
        let qualities: Vec<&Scored> = windows.values().filter_map(|report| labelled(report)).collect();
        let (metric, key) = headline(&qualities, versions);
        let point = |report: &&WindowReport| {
            let quality = labelled(report)?;
            Some(Point {
                from: report.window.from,
                rows: quality.labelled_rows,
                baseline: quality.reference_metrics.get(key).copied(),
                live: quality.metrics.get(key).copied(),
                versions: report.window.version.version.to_string(),
                verdict: verdict(quality),
            })
        };
        let points: Vec<Point> = windows.values().filter_map(point).collect();
        let mut takeovers: Vec<(u32, DateTime<Utc>)> = Vec::new();
        for report in windows.values() {
            let version = report.window.version.version;
            if takeovers.last().is_none_or(|(last, _)| *last != version) {
                takeovers.push((version, report.window.from));
            }
        }
        takeovers.drain(..1.min(takeovers.len()));
        Self::new(
            metric,
            ["on the validation rows", "live"],
            &points,
            &takeovers,
            "The solid line is the score of the predictions of a window whose outcomes have arrived, the dashed one that of the same version on \
             its validation rows. A vertical line marks the first window that another version answered.",
        )
    }
}

/// The quality of a window of which outcomes have arrived.
pub(super) fn labelled(report: &WindowReport) -> Option<&Scored> {
    report.quality.as_ref().filter(|quality| quality.labelled_rows > 0)
}

/// The score that is compared, and its key.
pub(super) fn headline(qualities: &[&Scored], versions: &[ModelVersion]) -> (&'static str, &'static str) {
    let is_regression = qualities.iter().any(|quality| quality.metrics.contains_key("mae"))
        || versions.iter().any(|version| version.metrics.contains_key("mae"));
    if is_regression { ("mean absolute error", "mae") } else { ("log loss", "log_loss") }
}

/// The verdict on a quality, in words.
pub(crate) fn verdict(quality: &Scored) -> String {
    let text = match quality.verdict {
        Verdict::Stable => "stable",
        Verdict::Drifted => "▲ degraded",
        Verdict::Inconclusive => "? inconclusive",
    };
    text.to_owned()
}
