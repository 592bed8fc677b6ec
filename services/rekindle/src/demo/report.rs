//! `report.html`: the results for people, in one self-contained file without scripts.

use std::{collections::BTreeMap, time::Duration};

use askama::Template;
use chrono::{DateTime, Utc};
use plotters::style::RGBColor;
use rekindle_domain::{
    model_version::ModelVersion,
    report::{ColumnDrift, Verdict, WindowReport},
    workflow::WorkflowStatus,
};

use super::{
    chart::{self, Line, Mark},
    scoring::WindowScores,
    summary::{Scores, Summary},
    timeline::Entry,
};

/// The contents of the report.
pub(crate) struct Material<'a> {
    pub model: &'a str,
    pub file: &'a str,
    pub replicas: usize,
    pub train_until: DateTime<Utc>,
    pub from: DateTime<Utc>,
    pub until: DateTime<Utc>,
    pub label_delay: Duration,
    pub window: Duration,
    /// Name of the headline score, e.g. `log loss`.
    pub metric: &'static str,
    pub summary: &'a Summary,
    /// Why no other model was deployed, if none was.
    pub unchanged_because: Option<&'a str>,
    pub windows: &'a [WindowScores],
    /// Each version after the first, with the event time at which it first answered.
    pub takeovers: &'a [(u32, DateTime<Utc>)],
    pub reports: &'a [WindowReport],
    pub workflows: &'a [WorkflowStatus],
    pub versions: &'a [ModelVersion],
    pub timeline: &'a [Entry],
}

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    model: &'a str,
    file: &'a str,
    replicas: usize,
    train_until: String,
    from: String,
    until: String,
    label_delay: String,
    window: String,
    metric: &'static str,
    summary: &'a Summary,
    unchanged_because: Option<&'a str>,
    succeeded: usize,
    static_score: String,
    live_score: String,
    respond: String,
    chart: Option<String>,
    windows: Vec<WindowRow>,
    drift_windows: Vec<String>,
    drift: Vec<DriftRow>,
    workflows: Vec<WorkflowRow>,
    versions: Vec<VersionRow>,
    timeline: &'a [Entry],
}

struct WindowRow {
    from: String,
    rows: usize,
    unchanged: String,
    live: String,
    versions: String,
}

struct DriftRow {
    name: String,
    cells: Vec<Cell>,
}

struct Cell {
    color: String,
    title: String,
}

struct WorkflowRow {
    queued: String,
    trigger: String,
    cause: String,
    state: String,
    versions: String,
    seconds: String,
    reason: String,
}

struct VersionRow {
    version: u32,
    bundle: String,
    run: String,
    review: String,
    metrics: String,
    aliases: String,
}

/// Renders the page.
pub(crate) fn render(material: &Material<'_>) -> Result<String, askama::Error> {
    let (drift_windows, drift) = heat_map(material.reports);
    let headline = |scores: &Option<Scores>| number(scores.as_ref().and_then(|s| s.headline()));
    Page {
        model: material.model,
        file: material.file,
        replicas: material.replicas,
        train_until: day(material.train_until),
        from: day(material.from),
        until: day(material.until),
        label_delay: words(material.label_delay),
        window: words(material.window),
        metric: material.metric,
        summary: material.summary,
        unchanged_because: material.unchanged_because,
        succeeded: material.summary.workflows.iter().filter(|w| w.state == "SUCCEEDED").count(),
        static_score: headline(&material.summary.unchanged),
        live_score: headline(&material.summary.live),
        respond: material.summary.time_to_respond_s.map_or_else(|| "none".to_owned(), |s| format!("{s:.1} s")),
        chart: quality_chart(material),
        windows: material.windows.iter().map(window_row).collect(),
        drift_windows,
        drift,
        workflows: material.workflows.iter().map(workflow_row).collect(),
        versions: material.versions.iter().map(version_row).collect(),
        timeline: material.timeline,
    }
    .render()
}

fn quality_chart(material: &Material<'_>) -> Option<String> {
    let points = |score: fn(&WindowScores) -> Option<f64>| {
        material.windows.iter().filter_map(|window| Some((window.from, score(window)?))).collect()
    };
    let lines = [
        Line { name: "first model", color: RGBColor(120, 124, 140), points: points(|w| w.unchanged.headline()) },
        Line { name: "live", color: RGBColor(194, 65, 12), points: points(|w| w.live.headline()) },
    ];
    let marks: Vec<Mark> =
        material.takeovers.iter().map(|&(version, at)| Mark { at, label: format!("version {version}") }).collect();
    chart::lines(material.metric, &lines, &marks)
}

fn window_row(window: &WindowScores) -> WindowRow {
    let versions: Vec<String> = window.versions.iter().map(|(version, rows)| format!("{version} ({rows})")).collect();
    WindowRow {
        from: day(window.from),
        rows: window.rows,
        unchanged: number(window.unchanged.headline()),
        live: number(window.live.headline()),
        versions: versions.join(", "),
    }
}

/// One row per feature, the most drifted first; one column per window, in time order. If several versions answered in a window, it shows
/// the one with the most rows.
fn heat_map(reports: &[WindowReport]) -> (Vec<String>, Vec<DriftRow>) {
    let mut by_window = BTreeMap::<DateTime<Utc>, &WindowReport>::new();
    for report in reports {
        let kept = by_window.entry(report.window.from).or_insert(report);
        if report.window.rows > kept.window.rows {
            *kept = report;
        }
    }
    let columns: Vec<(DateTime<Utc>, Vec<&ColumnDrift>)> =
        by_window.into_iter().map(|(from, report)| (from, report.drift.columns().collect())).collect();
    let mut names: Vec<(&str, f64)> = Vec::new();
    for feature in columns.iter().flat_map(|(_, features)| features) {
        match names.iter_mut().find(|(name, _)| *name == feature.name) {
            Some((_, total)) => *total += feature.psi.max(0.0),
            None => names.push((&feature.name, feature.psi.max(0.0))),
        }
    }
    names.sort_by(|a, b| b.1.total_cmp(&a.1));
    let rows = names
        .iter()
        .map(|(name, _)| DriftRow {
            name: (*name).to_owned(),
            cells: columns
                .iter()
                .map(|(from, features)| cell(*from, features.iter().find(|f| f.name == *name)))
                .collect(),
        })
        .collect();
    (columns.iter().map(|(from, _)| day(*from)).collect(), rows)
}

fn cell(from: DateTime<Utc>, feature: Option<&&ColumnDrift>) -> Cell {
    match feature {
        None => Cell { color: "transparent".into(), title: format!("{}: not monitored", day(from)) },
        Some(feature) if feature.verdict == Verdict::Inconclusive => {
            Cell { color: "#d9dade".into(), title: format!("{}: inconclusive{}", day(from), because(feature)) }
        }
        Some(feature) => Cell {
            color: format!("rgba(194, 65, 12, {:.2})", feature.psi.clamp(0.03, 1.0)),
            title: format!("{}: PSI {:.3}, p {}{}", day(from), feature.psi, Short(feature.p_value), because(feature)),
        },
    }
}

/// The reason, as the end of a sentence; empty if none was recorded.
fn because(feature: &ColumnDrift) -> String {
    if feature.reason.is_empty() { String::new() } else { format!(": {}", feature.reason) }
}

/// A p-value with three decimals, or in scientific notation if it is smaller.
struct Short(f64);

impl std::fmt::Display for Short {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0 >= 0.001 { write!(f, "{:.3}", self.0) } else { write!(f, "{:.0e}", self.0) }
    }
}

fn workflow_row(workflow: &WorkflowStatus) -> WorkflowRow {
    let started = workflow.window_closed_at.unwrap_or(workflow.queued_at);
    let served = workflow.serving_everywhere_at.map(|at| format!("{:.1}", seconds(started, at)));
    let version = |version: Option<u32>| version.map_or_else(|| "none".to_owned(), |version| version.to_string());
    WorkflowRow {
        queued: workflow.queued_at.format("%H:%M:%S").to_string(),
        trigger: workflow.trigger.name().to_lowercase(),
        cause: workflow.cause.clone(),
        state: workflow.state.name().to_owned(),
        versions: format!("{} → {}", version(workflow.from_version), version(workflow.to_version)),
        seconds: served.unwrap_or_default(),
        reason: workflow.reason.clone(),
    }
}

/// Seconds between two times.
pub(crate) fn seconds(from: DateTime<Utc>, until: DateTime<Utc>) -> f64 {
    (until - from).as_seconds_f64()
}

/// A duration: `1 day`, `7 days`, `6h`.
pub(crate) fn words(span: Duration) -> String {
    const DAY: u64 = 24 * 3600;
    match span.as_secs() {
        DAY => "1 day".to_owned(),
        seconds if seconds > 0 && seconds % DAY == 0 => format!("{} days", seconds / DAY),
        _ => humantime::format_duration(span).to_string(),
    }
}

fn version_row(version: &ModelVersion) -> VersionRow {
    let shown = ["log_loss", "auc", "accuracy", "mae", "rmse"];
    let metrics =
        shown.iter().filter_map(|name| Some(format!("{name} {}", number(version.metrics.get(*name).copied()?.into()))));
    let metrics: Vec<String> = metrics.collect();
    let (approval, why) = (version.review.approval.name().to_lowercase(), &version.review.why);
    VersionRow {
        version: version.version,
        bundle: version.bundle.short(),
        run: version.run.map(|run| run.to_string()).unwrap_or_default(),
        review: if why.is_empty() { approval } else { format!("{approval}: {why}") },
        metrics: metrics.join(", "),
        aliases: version.aliases.join(", "),
    }
}

fn day(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d").to_string()
}

fn number(value: Option<f64>) -> String {
    match value {
        None => "none".to_owned(),
        Some(value) if value.abs() >= 10.0 => format!("{value:.2}"),
        Some(value) => format!("{value:.4}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_shows_the_reason() {
        let titled = |verdict: Verdict, reason: &str| {
            let feature = ColumnDrift {
                name: "temperature".into(),
                verdict,
                reason: reason.into(),
                psi: 0.5,
                p_value: 0.25,
                minimum_detectable_psi: 0.1,
                cause_share: 0.0,
                missing_reference: 0.0,
                missing_current: 0.0,
            };
            cell(DateTime::UNIX_EPOCH, Some(&&feature)).title
        };
        let inconclusive = titled(Verdict::Inconclusive, "7 rows are too few");
        assert_eq!(inconclusive, "1970-01-01: inconclusive: 7 rows are too few");
        let drifted = titled(Verdict::Drifted, "the unit has changed");
        assert_eq!(drifted, "1970-01-01: PSI 0.500, p 0.250: the unit has changed");
        assert_eq!(titled(Verdict::Inconclusive, ""), "1970-01-01: inconclusive");
        assert_eq!(cell(DateTime::UNIX_EPOCH, None).title, "1970-01-01: not monitored");
    }
}
