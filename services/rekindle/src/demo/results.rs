//! The results: waits until the platform has processed the replay, compares the predictions served with those of the first model, and
//! writes the summary and the report.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, Result, bail};
use chrono::{DateTime, Utc};
use rekindle_bundle::target::Targets;
use rekindle_domain::{
    Task, Trigger,
    report::{Verdict, WindowReport},
    workflow::WorkflowStatus,
};
use tokio::time::{Instant, sleep};

use super::{
    Plan, report,
    scoring::{self, Output, ScoredRow, Target, by_window},
    setup::FirstModel,
    summary::{Scores, Summary, WorkflowSummary},
    timeline::Timeline,
};
use crate::{
    client::{page::Limit, platform::Platform, replay::Replay},
    model_page::{
        self,
        format::{seconds, words},
    },
};

const POLL: Duration = Duration::from_millis(250);
/// Time after the last row within which the platform must have processed the replay.
const PATIENCE: Duration = Duration::from_secs(600);

/// Waits until every prediction and outcome is captured, and no workflow is in progress.
pub(crate) async fn settle(plan: &Plan, platform: &Platform, replay: &Replay) -> Result<()> {
    let answered = replay.rows - replay.failures.count;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let capture = platform.monitor().capture_status(&plan.model).await?;
        let is_captured =
            capture.predictions + capture.lost >= answered && capture.outcomes >= replay.outcomes.accepted;
        let workflows = workflows(plan, platform).await?;
        let in_progress = workflows.iter().filter(|workflow| !workflow.state.is_terminal()).count();
        if is_captured && in_progress == 0 {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("not done after {PATIENCE:?}: {in_progress} workflows in progress, captured {capture:?}");
        }
        sleep(POLL).await;
    }
}

/// Writes `summary.json` and `report.html`.
pub(crate) async fn write(
    plan: &Plan,
    platform: &Platform,
    first: &FirstModel,
    replay: &Replay,
    timeline: &Timeline,
) -> Result<Summary> {
    let workflows = workflows(plan, platform).await?;
    let task = first.bundle.manifest.task;
    let rows = scored(plan, first, replay)?;
    let takeovers = takeovers(&rows);
    let after = takeovers.first().map_or(rows.len(), |&(_, _, index)| index);
    let score = |pick| (after < rows.len()).then(|| scoring::scores(task, &rows[after..], pick));
    let summary = Summary {
        requests: replay.requests,
        failed_requests: replay.failures.count,
        rows: replay.rows,
        workflows: workflows.iter().map(summarize).collect(),
        unchanged: score(|row| &row.unchanged),
        live: score(|row| &row.live),
        events_published: events_published(platform).await?,
        time_to_respond_s: workflows.iter().filter_map(time_to_respond).max_by(f64::total_cmp),
        seconds: timeline.seconds(),
    };
    let monitor = platform.monitor();
    let reports = Limit::NONE.fetch(async |page| monitor.reports(&plan.model, page).await).await?;
    let unchanged_because = match (&summary.unchanged, &summary.live) {
        (Some(unchanged), Some(live)) => {
            add_scores(&summary, unchanged, live, timeline);
            None
        }
        _ => Some(why_unchanged(&reports, &workflows, plan.window)),
    };
    if let Some(reason) = &unchanged_because {
        timeline.add(format!("no redeployment: {reason}"));
    }
    let windows = by_window(task, &rows, plan.window);
    let moments: Vec<_> = takeovers.iter().map(|&(version, at, _)| (version, at)).collect();
    let registry = platform.registry();
    let mut versions = Limit::NONE.fetch(async |page| registry.model_versions(&plan.model, page).await).await?;
    versions.sort_by_key(|version| version.version);
    let moves = crate::client::report::moves(&registry, &plan.model).await?;
    let alerts = crate::client::alerts::oldest_first(platform, &plan.model).await?;
    let material = report::Material {
        page: model_page::Material {
            model: plan.model.as_str(),
            reports: &reports,
            alerts: &alerts,
            workflows: &workflows,
            versions: &versions,
            moves: &moves,
        },
        file: &plan.args.data.file_name().unwrap_or_default().to_string_lossy(),
        replicas: plan.args.replicas.into(),
        train_until: plan.args.train_until,
        from: rows.first().context("no row was answered")?.at,
        until: rows.last().context("no row was answered")?.at,
        label_delay: plan.args.label_delay,
        metric: if task == Task::Regression { "mean absolute error" } else { "log loss" },
        summary: &summary,
        unchanged_because: unchanged_because.as_deref(),
        windows: &windows,
        takeovers: &moments,
        timeline: &timeline.entries(),
    };
    write_file(plan, "report.html", &report::render(&material)?)?;
    write_file(plan, "summary.json", &serde_json::to_string_pretty(&summary)?)?;
    timeline.add(format!("report written to {}", plan.args.out.join("report.html").display()));
    Ok(summary)
}

fn write_file(plan: &Plan, name: &str, text: &str) -> Result<()> {
    let path = plan.args.out.join(name);
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Why no other model was deployed, from what was reported and tried.
fn why_unchanged(reports: &[WindowReport], workflows: &[WorkflowStatus], window: Duration) -> String {
    if let Some(last) = workflows.last() {
        let state = last.state.name().to_lowercase();
        return format!("{} retrainings, the last of which is {state}: {}", workflows.len(), last.reason);
    }
    if reports.is_empty() {
        return format!("the replayed rows end before the first window of {}", words(window));
    }
    let verdicts = |verdict: Verdict| reports.iter().filter(|report| report.drift.verdict == verdict).count();
    let (stable, inconclusive) = (verdicts(Verdict::Stable), verdicts(Verdict::Inconclusive));
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for report in reports.iter().filter(|report| report.drift.verdict == Verdict::Inconclusive) {
        *reasons.entry(report.reason.as_str()).or_default() += 1;
    }
    let frequent = reasons.into_iter().max_by_key(|&(_, count)| count).map(|(reason, _)| format!(", e.g. {reason}"));
    format!(
        "of {} windows none has drifted or degraded; {stable} are stable, {inconclusive} inconclusive{}",
        reports.len(),
        frequent.unwrap_or_default()
    )
}

fn add_scores(summary: &Summary, unchanged: &Scores, live: &Scores, timeline: &Timeline) {
    if let (Some(unchanged), Some(live)) = (unchanged.headline(), live.headline()) {
        timeline.add(format!("after the first redeployment: {live:.4} live, {unchanged:.4} with the first model"));
    }
    if let Some(seconds) = summary.time_to_respond_s {
        timeline.add(format!("longest time from the close of a window until every replica served: {seconds:.1} s"));
    }
}

/// The answered rows, each with the prediction of the first model.
fn scored(plan: &Plan, first: &FirstModel, replay: &Replay) -> Result<Vec<ScoredRow>> {
    let prediction = first.model.score(&plan.live.batch)?;
    let (width, scores) = prediction.scores();
    let unchanged: Vec<Output> =
        scores.chunks(width.max(1)).map(|row| row.iter().map(|&p| p.into()).collect()).collect();
    let times = plan.live.times(&plan.args.time)?;
    let labels = first.model.targets(&plan.live.batch)?;
    let answered = replay.answers.iter().enumerate().filter_map(|(row, answer)| Some((row, answer.as_ref()?)));
    Ok(answered
        .filter_map(|(row, answer)| {
            Some(ScoredRow {
                at: DateTime::from_timestamp_millis(times[row])?,
                version: answer.version,
                label: label(&labels, row)?,
                live: answer.output.iter().map(|&element| f64::from(element)).collect(),
                unchanged: unchanged[row].clone(),
            })
        })
        .collect())
}

/// The label of one row; `None` for a class that is not one of the first model.
fn label(labels: &Targets, row: usize) -> Option<Target> {
    match labels {
        Targets::Classes(classes) => classes[row].map(Target::Class),
        Targets::Numbers(numbers) => Some(Target::Number(numbers[row])),
    }
}

/// Each version after the first, with the event time and the index of its first row.
fn takeovers(rows: &[ScoredRow]) -> Vec<(u32, DateTime<Utc>, usize)> {
    let mut first = BTreeMap::new();
    for (index, row) in rows.iter().enumerate() {
        first.entry(row.version).or_insert((row.at, index));
    }
    let mut found: Vec<_> = first.into_iter().map(|(version, (at, index))| (version, at, index)).collect();
    found.sort_by_key(|&(_, _, index)| index);
    found.split_off(1.min(found.len()))
}

fn summarize(workflow: &WorkflowStatus) -> WorkflowSummary {
    WorkflowSummary {
        id: workflow.id.to_string(),
        trigger: workflow.trigger.name().to_lowercase(),
        state: workflow.state.name().to_owned(),
        queued_at: Some(workflow.queued_at),
        serving_everywhere_at: workflow.serving_everywhere_at,
        from_version: workflow.from_version.unwrap_or_default(),
        to_version: workflow.to_version.unwrap_or_default(),
    }
}

/// Seconds from the close of the window that raised the alert until every replica served the new version.
fn time_to_respond(workflow: &WorkflowStatus) -> Option<f64> {
    match workflow.trigger {
        Trigger::Drift | Trigger::Degradation => {
            Some(seconds(workflow.window_closed_at?, workflow.serving_everywhere_at?))
        }
        Trigger::Manual | Trigger::Schedule | Trigger::DatasetVersion | Trigger::Window => None,
    }
}

/// Every workflow, oldest first.
async fn workflows(plan: &Plan, platform: &Platform) -> Result<Vec<WorkflowStatus>> {
    let orchestrator = platform.orchestrator();
    let mut found = Limit::NONE.fetch(async |page| orchestrator.workflows(Some(&plan.model), page).await).await?;
    found.reverse();
    Ok(found)
}

async fn events_published(platform: &Platform) -> Result<u64> {
    let client = async_nats::connect(platform.nats()).await.context("NATS is unreachable")?;
    let stream = async_nats::jetstream::new(client).get_stream(rekindle_bus::streams::EVENTS).await?;
    Ok(stream.cached_info().state.last_sequence)
}
