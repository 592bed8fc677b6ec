//! Quality over time: a chart of two or three lines, and the same as a table.

use chrono::{DateTime, Utc};
use plotters::style::RGBColor;
use rekindle_domain::{
    model_version::ModelVersion,
    report::{EstimatedMetric, Quality as Scored, Verdict, WindowReport},
};

use super::{
    by_window,
    chart::{self, Line, Mark, Stroke},
    format::{day, grouped, number},
};

/// The colours of the lines, which the style sheet replaces in dark mode.
const BASELINE: RGBColor = RGBColor(100, 116, 143);
const LIVE: RGBColor = RGBColor(194, 65, 12);
const ESTIMATED: RGBColor = RGBColor(15, 118, 110);

/// The section of the quality.
pub(crate) struct Quality {
    /// Name of the score; lower is better.
    pub metric: &'static str,
    /// Name of the dashed line.
    pub baseline: &'static str,
    /// Name of the solid line.
    pub live: &'static str,
    /// Whether there is a dotted line, of estimates.
    pub has_estimates: bool,
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
    /// With the interval; empty without an estimate.
    pub estimated: String,
    pub versions: String,
    pub verdict: String,
}

/// The scores of one window.
pub(crate) struct Point {
    pub from: DateTime<Utc>,
    pub rows: u64,
    pub baseline: Option<f64>,
    pub live: Option<f64>,
    pub estimated: Option<Estimated>,
    pub versions: String,
    /// Empty if the monitor has none.
    pub verdict: String,
}

/// The estimate of a score.
pub(crate) struct Estimated {
    pub metric: EstimatedMetric,
    pub is_withdrawn: bool,
}

impl Estimated {
    /// E.g. `0.4930 (0.4410 to 0.5450)`.
    fn words(&self) -> String {
        if self.is_withdrawn {
            return "withdrawn".to_owned();
        }
        let EstimatedMetric { value, interval } = self.metric;
        let [value, lower, upper] = [value, interval.lower, interval.upper].map(|score| number(Some(score)));
        format!("{value} ({lower} to {upper})")
    }
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
        let estimate = |point: &Point| {
            let estimated = point.estimated.as_ref().filter(|estimated| !estimated.is_withdrawn)?;
            Some(estimated.metric.value)
        };
        let line = |stroke, color, score: fn(&Point) -> Option<f64>| {
            let points = points.iter().filter_map(|point| Some((point.from, score(point)?))).collect();
            Line { stroke, color, points }
        };
        let lines = [
            line(Stroke::Dashed, BASELINE, |point| point.baseline),
            line(Stroke::Dotted, ESTIMATED, estimate),
            line(Stroke::Solid, LIVE, |point| point.live),
        ];
        let mark = |&(version, at): &(u32, _)| Mark { at, label: format!("version {version}") };
        let marks: Vec<Mark> = takeovers.iter().map(mark).collect();
        let row = |point: &Point| QualityRow {
            from: day(point.from),
            rows: grouped(point.rows),
            baseline: number(point.baseline),
            live: number(point.live),
            estimated: point.estimated.as_ref().map(Estimated::words).unwrap_or_default(),
            versions: point.versions.clone(),
            verdict: point.verdict.clone(),
        };
        let (chart, rows) = (chart::lines(metric, &lines, &marks), points.iter().map(row).collect());
        let has_estimates = points.iter().any(|point| point.estimated.is_some());
        Self { metric, baseline, live, has_estimates, chart, rows, note }
    }

    /// The section of the windows whose outcomes have arrived, or whose score is estimated.
    pub(super) fn of_reports(reports: &[WindowReport], versions: &[ModelVersion]) -> Self {
        let windows = by_window(reports);
        let qualities: Vec<&Scored> = windows.values().filter_map(|report| labelled(report)).collect();
        let (metric, key) = headline(&qualities, versions);
        let point = |report: &&WindowReport| {
            let (quality, estimated) = (labelled(report), estimated(report, key));
            (quality.is_some() || estimated.is_some()).then(|| Point {
                from: report.window.from,
                rows: quality.map_or(0, |quality| quality.labelled_rows),
                baseline: quality.and_then(|quality| quality.reference_metrics.get(key).copied()),
                live: quality.and_then(|quality| quality.metrics.get(key).copied()),
                estimated,
                versions: report.window.version.version.to_string(),
                verdict: quality.map(verdict).unwrap_or_default(),
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
             its validation rows. The dotted line is the score, estimated from the predictions alone; an estimate is withdrawn if too many \
             earlier ones were wrong. A vertical line marks the first window that another version answered.",
        )
    }
}

/// The quality of a window of which outcomes have arrived.
pub(super) fn labelled(report: &WindowReport) -> Option<&Scored> {
    report.quality.as_ref().filter(|quality| quality.labelled_rows > 0)
}

/// The estimate of a score for a window.
fn estimated(report: &WindowReport, key: &str) -> Option<Estimated> {
    let estimate = report.estimate.as_ref()?;
    Some(Estimated { metric: *estimate.metrics.get(key)?, is_withdrawn: !estimate.withdrawn.is_empty() })
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
