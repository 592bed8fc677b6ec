//! `report.html`: the page of the model with the figures of the demonstration, in one self-contained file without scripts.

mod story;

use std::time::Duration;

use askama::Template;
use chrono::{DateTime, Utc};
use rekindle_domain::workflow::WorkflowState;

use super::{
    scoring::WindowScores,
    summary::{Scores, Summary},
    timeline::Entry,
};
use crate::model_page::{
    self, Point, Quality, Sections, by_window,
    format::{day, grouped, number, words},
    verdict,
};

/// The contents of the report.
#[derive(Clone, Copy)]
pub(crate) struct Material<'a> {
    /// What the page of the model shows.
    pub page: model_page::Material<'a>,
    pub file: &'a str,
    pub replicas: usize,
    pub train_until: DateTime<Utc>,
    pub from: DateTime<Utc>,
    pub until: DateTime<Utc>,
    pub label_delay: Duration,
    /// Name of the headline score, e.g. `log loss`.
    pub metric: &'static str,
    pub summary: &'a Summary,
    /// Why no other model was deployed, if none was.
    pub unchanged_because: Option<&'a str>,
    pub windows: &'a [WindowScores],
    /// Each version after the first, with the event time at which it first answered.
    pub takeovers: &'a [(u32, DateTime<Utc>)],
    pub timeline: &'a [Entry],
}

#[derive(Template)]
#[template(path = "demo.html")]
struct Page<'a> {
    page: Sections,
    file: &'a str,
    train_until: String,
    from: String,
    until: String,
    label_delay: String,
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
    timeline: &'a [Entry],
}

/// Renders the page.
pub(crate) fn render(material: &Material<'_>) -> Result<String, askama::Error> {
    let headline = |scores: &Option<Scores>| number(scores.as_ref().and_then(|s| s.headline()));
    let workflows = material.page.workflows;
    Page {
        page: Sections::new(&material.page, quality(material)),
        file: material.file,
        train_until: day(material.train_until),
        from: day(material.from),
        until: day(material.until),
        label_delay: words(material.label_delay),
        story: story::of(material),
        rows: grouped(material.summary.rows),
        requests: grouped(material.summary.requests),
        failed: grouped(material.summary.failed_requests),
        events: grouped(material.summary.events_published),
        all_workflows: workflows.len(),
        succeeded: workflows.iter().filter(|w| w.state == WorkflowState::Succeeded).count(),
        static_score: headline(&material.summary.unchanged),
        live_score: headline(&material.summary.live),
        respond: material.summary.time_to_respond_s.map_or_else(|| "none".to_owned(), |s| format!("{s:.1} s")),
        timeline: material.timeline,
    }
    .render()
}

/// Both models on the rows of each window, with the verdict of the monitor on it.
fn quality(material: &Material<'_>) -> Quality {
    let reports = by_window(material.page.reports);
    let point = |window: &WindowScores| {
        let versions: Vec<String> =
            window.versions.iter().map(|(version, rows)| format!("{version} ({rows})")).collect();
        let monitored = reports.values().find(|report| report.window.from == window.from);
        let monitored = monitored.and_then(|report| report.quality.as_ref());
        Point {
            from: window.from,
            rows: window.rows as u64,
            baseline: window.unchanged.headline(),
            live: window.live.headline(),
            estimated: None,
            versions: versions.join(", "),
            verdict: monitored.map(verdict).unwrap_or_default(),
        }
    };
    let points: Vec<Point> = material.windows.iter().map(point).collect();
    Quality::new(
        material.metric,
        ["first model", "live models"],
        &points,
        material.takeovers,
        "A vertical line marks the event time at which a new version first answered; until the first one, both lines are the same. Beside each \
         version is the number of rows that it answered.",
    )
}

#[cfg(test)]
mod tests;
