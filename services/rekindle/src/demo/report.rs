//! `report.html`: the results for people, in one self-contained file without scripts.

mod heat_map;
mod story;

use std::time::Duration;

use askama::Template;
use chrono::{DateTime, Utc};
use plotters::style::RGBColor;
use rekindle_domain::{
    model_version::ModelVersion,
    report::WindowReport,
    workflow::{WorkflowState, WorkflowStatus},
};

use self::heat_map::HeatMap;
use super::{
    chart::{self, Line, Mark, Stroke},
    scoring::WindowScores,
    summary::{Scores, Summary},
    timeline::Entry,
};

/// The contents of the report.
#[derive(Clone, Copy)]
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
#[template(path = "demo.html")]
struct Page<'a> {
    model: &'a str,
    file: &'a str,
    train_until: String,
    from: String,
    until: String,
    label_delay: String,
    window: String,
    metric: &'static str,
    story: [String; 3],
    rows: String,
    requests: String,
    failed: String,
    events: String,
    all_workflows: usize,
    succeeded: usize,
    static_score: String,
    live_score: String,
    respond: String,
    chart: Option<String>,
    windows: Vec<WindowRow>,
    drift: HeatMap,
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

struct WorkflowRow {
    queued: String,
    trigger: String,
    cause: String,
    state: &'static str,
    /// Beside the state, so that nothing is in the colour alone.
    sign: &'static str,
    /// The class of its colour.
    class: &'static str,
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
    let headline = |scores: &Option<Scores>| number(scores.as_ref().and_then(|s| s.headline()));
    Page {
        model: material.model,
        file: material.file,
        train_until: day(material.train_until),
        from: day(material.from),
        until: day(material.until),
        label_delay: words(material.label_delay),
        window: words(material.window),
        metric: material.metric,
        story: story::of(material),
        rows: grouped(material.summary.rows),
        requests: grouped(material.summary.requests),
        failed: grouped(material.summary.failed_requests),
        events: grouped(material.summary.events_published),
        all_workflows: material.workflows.len(),
        succeeded: material.workflows.iter().filter(|w| w.state == WorkflowState::Succeeded).count(),
        static_score: headline(&material.summary.unchanged),
        live_score: headline(&material.summary.live),
        respond: material.summary.time_to_respond_s.map_or_else(|| "none".to_owned(), |s| format!("{s:.1} s")),
        chart: quality_chart(material),
        windows: material.windows.iter().map(window_row).collect(),
        drift: heat_map::of(material.reports),
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
        Line { stroke: Stroke::Dashed, color: RGBColor(100, 116, 143), points: points(|w| w.unchanged.headline()) },
        Line { stroke: Stroke::Solid, color: RGBColor(194, 65, 12), points: points(|w| w.live.headline()) },
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

fn workflow_row(workflow: &WorkflowStatus) -> WorkflowRow {
    let started = workflow.window_closed_at.unwrap_or(workflow.queued_at);
    let served = workflow.serving_everywhere_at.map(|at| format!("{:.1}", seconds(started, at)));
    let (sign, class) = sign(workflow.state);
    let version = |version: Option<u32>| version.map_or_else(|| "none".to_owned(), |version| version.to_string());
    WorkflowRow {
        queued: workflow.queued_at.format("%H:%M:%S").to_string(),
        trigger: workflow.trigger.name().to_lowercase(),
        cause: workflow.cause.clone(),
        state: workflow.state.name(),
        sign,
        class,
        versions: format!("{} → {}", version(workflow.from_version), version(workflow.to_version)),
        seconds: served.unwrap_or_default(),
        reason: workflow.reason.clone(),
    }
}

fn sign(state: WorkflowState) -> (&'static str, &'static str) {
    match state {
        WorkflowState::Succeeded => ("✓", "good"),
        WorkflowState::Rejected | WorkflowState::Cancelled => ("–", "soft"),
        WorkflowState::RolledBack | WorkflowState::Failed => ("✕", "bad"),
        WorkflowState::Queued
        | WorkflowState::Assembling
        | WorkflowState::Training
        | WorkflowState::Evaluating
        | WorkflowState::AwaitingApproval
        | WorkflowState::RollingOut
        | WorkflowState::Observing => ("…", "soft"),
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

/// A count with thousands separators.
fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn number(value: Option<f64>) -> String {
    match value {
        None => "none".to_owned(),
        Some(value) if value.abs() >= 10.0 => format!("{value:.2}"),
        Some(value) => format!("{value:.4}"),
    }
}

#[cfg(test)]
mod tests;
