//! The page of one model: its quality and drift over time, the workflows, the versions, and the moves of its aliases, in one self-contained
//! file without scripts. The page of a demonstration is this page with the figures of the demonstration added.

mod chart;
pub(crate) mod format;
mod heat_map;
mod quality;
mod slices;
pub(crate) mod story;

use std::{collections::BTreeMap, time::Duration};

use askama::Template;
use chrono::{DateTime, Utc};
use rekindle_domain::{
    Alert, Alias,
    alert::AlertState,
    model_version::ModelVersion,
    report::{Verdict, WindowReport},
    workflow::{WorkflowState, WorkflowStatus},
};

use self::{
    format::{grouped, number, seconds, words},
    heat_map::HeatMap,
    slices::SliceRow,
};
use crate::client::output;
pub(crate) use quality::{Point, Quality, verdict};

/// What is known about a model over a span of time.
#[derive(Clone, Copy)]
pub(crate) struct Material<'a> {
    pub model: &'a str,
    /// Of all rows, not of slices.
    pub reports: &'a [WindowReport],
    /// Oldest first.
    pub alerts: &'a [Alert],
    /// Oldest first.
    pub workflows: &'a [WorkflowStatus],
    /// By number.
    pub versions: &'a [ModelVersion],
    /// The moves of all aliases, oldest first.
    pub moves: &'a [Alias],
}

/// What every page has.
pub(crate) struct Sections {
    pub(crate) model: String,
    pub(crate) quality: Quality,
    pub(crate) slices: Vec<SliceRow>,
    pub(crate) drift: HeatMap,
    /// The length of the windows, e.g. ` of 7 days`; empty if there are several.
    pub(crate) window: String,
    pub(crate) alerts: Vec<AlertRow>,
    pub(crate) workflows: Vec<WorkflowRow>,
    pub(crate) versions: Vec<VersionRow>,
    pub(crate) moves: Vec<MoveRow>,
}

pub(crate) struct AlertRow {
    pub(crate) opened: String,
    pub(crate) kind: String,
    pub(crate) severity: String,
    pub(crate) state: String,
    /// Beside the state, so that nothing is in the colour alone.
    pub(crate) sign: &'static str,
    /// The class of its colour.
    pub(crate) class: &'static str,
    pub(crate) summary: String,
    pub(crate) advice: String,
}

pub(crate) struct WorkflowRow {
    pub(crate) queued: String,
    pub(crate) trigger: String,
    pub(crate) cause: String,
    pub(crate) state: &'static str,
    /// Beside the state, so that nothing is in the colour alone.
    pub(crate) sign: &'static str,
    /// The class of its colour.
    pub(crate) class: &'static str,
    pub(crate) versions: String,
    pub(crate) seconds: String,
    pub(crate) reason: String,
}

pub(crate) struct VersionRow {
    pub(crate) version: u32,
    pub(crate) bundle: String,
    pub(crate) run: String,
    pub(crate) review: String,
    pub(crate) metrics: String,
    pub(crate) aliases: String,
}

pub(crate) struct MoveRow {
    pub(crate) at: String,
    pub(crate) alias: String,
    pub(crate) version: String,
    pub(crate) by: String,
    pub(crate) why: String,
}

impl Sections {
    /// The sections of a model, with its quality as it is shown.
    pub(crate) fn new(material: &Material<'_>, quality: Quality) -> Self {
        Self {
            model: material.model.to_owned(),
            quality,
            slices: slices::of(material.reports),
            drift: heat_map::of(material.reports),
            window: window_length(material.reports),
            alerts: material.alerts.iter().map(alert_row).collect(),
            workflows: material.workflows.iter().map(workflow_row).collect(),
            versions: material.versions.iter().map(version_row).collect(),
            moves: material.moves.iter().map(move_row).collect(),
        }
    }
}

#[derive(Template)]
#[template(path = "model_page/report.html")]
struct Page<'a> {
    page: Sections,
    story: [String; 3],
    span: &'a str,
    made: String,
    figures: &'a Figures,
    champion: String,
    live_score: String,
    rows: String,
}

/// The figures of a model over a span.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub(crate) struct Figures {
    /// Rows in the windows.
    pub rows: u64,
    /// Windows that are closed.
    pub windows: usize,
    /// Those whose inputs or predictions have drifted.
    pub drifted: usize,
    /// Those whose outcomes have arrived.
    pub labelled: usize,
    /// Those whose quality has degraded.
    pub degraded: usize,
    /// Alerts that are not resolved.
    pub open_alerts: usize,
    pub workflows: usize,
    /// Workflows that deployed another version.
    pub succeeded: usize,
    /// The version that the alias `champion` points at.
    pub champion: Option<u32>,
    /// Name of the score; lower is better.
    pub metric: &'static str,
    /// In the latest window whose outcomes have arrived.
    pub score: Option<f64>,
    /// On the validation rows of the version that answered in it.
    pub validation_score: Option<f64>,
}

impl Figures {
    /// The figures of a model.
    pub(crate) fn of(material: &Material<'_>) -> Self {
        let windows = by_window(material.reports);
        let qualities: Vec<_> = windows.values().filter_map(|report| quality::labelled(report)).collect();
        let (metric, key) = quality::headline(&qualities, material.versions);
        let champion = |version: &&ModelVersion| version.aliases.iter().any(|alias| alias == "champion");
        let latest = qualities.last();
        Self {
            rows: material.reports.iter().map(|report| report.window.rows).sum(),
            windows: windows.len(),
            drifted: windows.values().filter(|report| report.drift.verdict == Verdict::Drifted).count(),
            labelled: qualities.len(),
            degraded: qualities.iter().filter(|quality| quality.verdict == Verdict::Drifted).count(),
            open_alerts: material.alerts.iter().filter(|alert| alert.state() != AlertState::Resolved).count(),
            workflows: material.workflows.len(),
            succeeded: material.workflows.iter().filter(|w| w.state == WorkflowState::Succeeded).count(),
            champion: material.versions.iter().find(champion).map(|version| version.version),
            metric,
            score: latest.and_then(|quality| quality.metrics.get(key).copied()),
            validation_score: latest.and_then(|quality| quality.reference_metrics.get(key).copied()),
        }
    }
}

/// Renders the page of a model. `span` says which time it covers; `made` is when it was made.
pub(crate) fn render(
    material: &Material<'_>,
    figures: &Figures,
    span: &str,
    made: DateTime<Utc>,
) -> Result<String, askama::Error> {
    Page {
        page: Sections::new(material, Quality::of_reports(material.reports, material.versions)),
        story: story::of(material, figures),
        span,
        made: made.format("%Y-%m-%d %H:%M:%S UTC").to_string(),
        champion: figures.champion.map_or_else(|| "none".to_owned(), |version| version.to_string()),
        live_score: number(figures.score),
        rows: grouped(figures.rows),
        figures,
    }
    .render()
}

/// Start and end of a window.
pub(crate) type Span = (DateTime<Utc>, DateTime<Utc>);

/// The reports by window. If several versions answered in a window, it has the report with the most rows.
pub(crate) fn by_window(reports: &[WindowReport]) -> BTreeMap<Span, &WindowReport> {
    let mut by_window = BTreeMap::<Span, &WindowReport>::new();
    for report in reports {
        let kept = by_window.entry((report.window.from, report.window.until)).or_insert(report);
        if report.window.rows > kept.window.rows {
            *kept = report;
        }
    }
    by_window
}

/// The length of the windows, e.g. ` of 7 days`; empty if they differ in it.
fn window_length(reports: &[WindowReport]) -> String {
    let length = |report: &WindowReport| report.window.until - report.window.from;
    let Some(first) = reports.first().map(length) else { return String::new() };
    let is_common = reports.iter().all(|report| length(report) == first);
    first
        .to_std()
        .ok()
        .filter(|_| is_common)
        .map(|length: Duration| format!(" of {}", words(length)))
        .unwrap_or_default()
}

fn alert_row(alert: &Alert) -> AlertRow {
    let (sign, class) = match alert.state() {
        AlertState::Open => ("●", "bad"),
        AlertState::Acknowledged => ("…", "soft"),
        AlertState::Resolved => ("✓", "good"),
    };
    AlertRow {
        opened: alert.opened_at.format("%Y-%m-%d %H:%M:%S").to_string(),
        kind: output::words(alert.kind.name()),
        severity: output::words(alert.severity.name()),
        state: output::words(alert.state().name()),
        sign,
        class,
        summary: alert.message.summary.clone(),
        advice: alert.message.advice.clone(),
    }
}

fn workflow_row(workflow: &WorkflowStatus) -> WorkflowRow {
    let started = workflow.window_closed_at.unwrap_or(workflow.queued_at);
    let served = workflow.serving_everywhere_at.map(|at| format!("{:.1}", seconds(started, at)));
    let (sign, class) = sign(workflow.state);
    let version = |version: Option<u32>| version.map_or_else(|| "none".to_owned(), |version| version.to_string());
    WorkflowRow {
        queued: workflow.queued_at.format("%Y-%m-%d %H:%M:%S").to_string(),
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
        | WorkflowState::Refitting
        | WorkflowState::AwaitingApproval
        | WorkflowState::RollingOut
        | WorkflowState::Observing => ("…", "soft"),
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

fn move_row(alias: &Alias) -> MoveRow {
    MoveRow {
        at: alias.moved_at.format("%Y-%m-%d %H:%M:%S").to_string(),
        alias: alias.alias.to_string(),
        version: if alias.deleted { "deleted".to_owned() } else { alias.version.to_string() },
        by: alias.by.clone(),
        why: alias.why.clone(),
    }
}

#[cfg(test)]
pub(crate) mod tests;
