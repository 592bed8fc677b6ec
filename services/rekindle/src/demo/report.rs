//! `report.html`: what the demonstration showed, for people. Self-contained: one file, no scripts, nothing fetched.

use std::time::Duration;

use askama::Template;
use chrono::{DateTime, Utc};
use plotters::style::RGBColor;
use rekindle_proto::{monitor, orchestrator, registry, time};

use super::{
    chart::{self, Line, Mark},
    scoring::WindowScores,
    story::Entry,
    summary::Summary,
};

/// All that the report tells.
pub(crate) struct Material<'a> {
    pub model: &'a str,
    pub file: &'a str,
    pub replicas: usize,
    pub train_until: DateTime<Utc>,
    pub from: DateTime<Utc>,
    pub until: DateTime<Utc>,
    pub label_delay: Duration,
    pub window: Duration,
    /// What the headline score is called, e.g. `log loss`.
    pub metric: &'static str,
    pub summary: &'a Summary,
    pub windows: &'a [WindowScores],
    /// When each later version first answered, in the time of the data.
    pub takeovers: &'a [(u32, DateTime<Utc>)],
    pub reports: &'a [monitor::WindowReport],
    pub workflows: &'a [orchestrator::Workflow],
    pub versions: &'a [registry::ModelVersion],
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

/// Writes the page.
pub(crate) fn render(material: &Material<'_>) -> Result<String, askama::Error> {
    let (drift_windows, drift) = heat_map(material.reports);
    let headline = |scores: &Option<super::summary::Scores>| number(scores.as_ref().and_then(|s| s.headline()));
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
        Line {
            name: "first model, unchanged",
            color: RGBColor(120, 124, 140),
            points: points(|w| w.unchanged.headline()),
        },
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

/// One row per feature, the most drifted first; one column per window, in time order. Where several versions answered in a window,
/// the one with the most rows speaks for it.
fn heat_map(reports: &[monitor::WindowReport]) -> (Vec<String>, Vec<DriftRow>) {
    let mut by_window = std::collections::BTreeMap::<DateTime<Utc>, &monitor::WindowReport>::new();
    for report in reports {
        let Some(from) = report.from.and_then(time::from_wire) else { continue };
        let kept = by_window.entry(from).or_insert(report);
        if report.rows > kept.rows {
            *kept = report;
        }
    }
    let columns: Vec<(DateTime<Utc>, Vec<&monitor::FeatureDrift>)> = by_window
        .into_iter()
        .map(|(from, report)| (from, report.features.iter().chain(&report.prediction).collect()))
        .collect();
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

fn cell(from: DateTime<Utc>, feature: Option<&&monitor::FeatureDrift>) -> Cell {
    match feature {
        None => Cell { color: "transparent".into(), title: format!("{}: not watched", day(from)) },
        Some(feature) if feature.verdict() == monitor::Verdict::Unknown => {
            Cell { color: "#d9dade".into(), title: format!("{}: cannot tell{}", day(from), because(feature)) }
        }
        Some(feature) => Cell {
            color: format!("rgba(194, 65, 12, {:.2})", feature.psi.clamp(0.03, 1.0)),
            title: format!("{}: PSI {:.3}, p {}{}", day(from), feature.psi, Short(feature.p_value), because(feature)),
        },
    }
}

/// The reason, as the end of a sentence; empty where none was kept.
fn because(feature: &monitor::FeatureDrift) -> String {
    if feature.reason.is_empty() { String::new() } else { format!(": {}", feature.reason) }
}

/// A p-value in as few digits as it needs.
struct Short(f64);

impl std::fmt::Display for Short {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0 >= 0.001 { write!(f, "{:.3}", self.0) } else { write!(f, "{:.0e}", self.0) }
    }
}

fn workflow_row(workflow: &orchestrator::Workflow) -> WorkflowRow {
    let seconds = span(workflow.window_closed_at.or(workflow.queued_at), workflow.serving_everywhere_at);
    let to = if workflow.to_version == 0 { "none".to_owned() } else { workflow.to_version.to_string() };
    WorkflowRow {
        queued: workflow
            .queued_at
            .and_then(time::from_wire)
            .map(|at| at.format("%H:%M:%S").to_string())
            .unwrap_or_default(),
        trigger: workflow.trigger().as_str_name().trim_start_matches("TRIGGER_").to_lowercase(),
        cause: workflow.cause.clone(),
        state: state_name(workflow.state()).to_owned(),
        versions: format!("{} → {to}", workflow.from_version),
        seconds: seconds.map(|s| format!("{s:.1}")).unwrap_or_default(),
        reason: workflow.reason.clone(),
    }
}

/// `SUCCEEDED` and the like, without the prefix of the wire.
pub(crate) fn state_name(state: orchestrator::WorkflowState) -> &'static str {
    state.as_str_name().trim_start_matches("WORKFLOW_STATE_")
}

/// Seconds between two times; `None` where either is unset.
pub(crate) fn span(from: Option<prost_types::Timestamp>, to: Option<prost_types::Timestamp>) -> Option<f64> {
    let span = time::from_wire(to?)? - time::from_wire(from?)?;
    Some(span.as_seconds_f64())
}

/// A span in words: `1 day`, `7 days`, `6h`.
pub(crate) fn words(span: Duration) -> String {
    const DAY: u64 = 24 * 3600;
    match span.as_secs() {
        DAY => "1 day".to_owned(),
        seconds if seconds > 0 && seconds % DAY == 0 => format!("{} days", seconds / DAY),
        _ => humantime::format_duration(span).to_string(),
    }
}

fn version_row(version: &registry::ModelVersion) -> VersionRow {
    let told = ["log_loss", "auc", "accuracy", "mae", "rmse"];
    let metrics =
        told.iter().filter_map(|name| Some(format!("{name} {}", number(version.metrics.get(*name).copied()?.into()))));
    let metrics: Vec<String> = metrics.collect();
    VersionRow {
        version: version.version,
        bundle: version.bundle_digest.trim_start_matches("sha256:").chars().take(12).collect(),
        run: version.run_id.clone(),
        review: version
            .review
            .as_ref()
            .map(|review| {
                let approval = review.approval().as_str_name().trim_start_matches("APPROVAL_").to_lowercase();
                if review.why.is_empty() { approval } else { format!("{approval}: {}", review.why) }
            })
            .unwrap_or_default(),
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
    fn a_cell_says_why() {
        let titled = |verdict: monitor::Verdict, reason: &str| {
            let feature = monitor::FeatureDrift {
                verdict: verdict.into(),
                psi: 0.5,
                p_value: 0.25,
                reason: reason.into(),
                ..Default::default()
            };
            cell(DateTime::UNIX_EPOCH, Some(&&feature)).title
        };
        let unknown = titled(monitor::Verdict::Unknown, "7 rows are too few");
        assert_eq!(unknown, "1970-01-01: cannot tell: 7 rows are too few");
        let drifted = titled(monitor::Verdict::Drifted, "the unit has changed");
        assert_eq!(drifted, "1970-01-01: PSI 0.500, p 0.250: the unit has changed");
        assert_eq!(titled(monitor::Verdict::Unknown, ""), "1970-01-01: cannot tell");
        assert_eq!(cell(DateTime::UNIX_EPOCH, None).title, "1970-01-01: not watched");
    }
}
