//! What came of the demonstration: waits for the loop to come to rest, compares the live answers with the first model's, and writes
//! the summary and the report.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, Result, bail};
use chrono::DateTime;
use rekindle_domain::Task;
use rekindle_model::target::Targets;
use rekindle_proto::{
    monitor::{GetCaptureStatusRequest, ListReportsRequest, WindowReport},
    orchestrator::{ListWorkflowsRequest, Trigger, Workflow, WorkflowState},
    registry::{ListModelVersionsRequest, ModelVersion},
    time::from_wire,
};
use tokio::time::{Instant, sleep};

use super::{
    Plan, report,
    scoring::{self, Output, ScoredRow, Target, by_window},
    setup::FirstModel,
    story::Story,
    summary::{Summary, WorkflowSummary},
};
use crate::client::{connection::Connection, replay::Replay};

const POLL: Duration = Duration::from_millis(250);
/// How long the loop may take to come to rest after the last row.
const PATIENCE: Duration = Duration::from_secs(120);
const PAGE: u32 = 500;

/// Waits until everything that was answered and reported is captured, and no workflow is under way.
pub(crate) async fn settle(plan: &Plan, connection: &Connection, replay: &Replay) -> Result<()> {
    let answered = replay.rows - replay.failed_requests;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let request = GetCaptureStatusRequest { model: plan.model.to_string() };
        let capture = connection.monitor().get_capture_status(request).await?.into_inner();
        let captured = capture.predictions + capture.lost >= answered && capture.outcomes >= replay.outcomes;
        let open = workflows(plan, connection).await?.iter().filter(|workflow| !has_ended(workflow)).count();
        if captured && open == 0 {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("not at rest after {PATIENCE:?}: {open} workflows under way, captured {capture:?}");
        }
        sleep(POLL).await;
    }
}

fn has_ended(workflow: &Workflow) -> bool {
    use WorkflowState::{Cancelled, Failed, Rejected, RolledBack, Succeeded};
    matches!(workflow.state(), Succeeded | Rejected | RolledBack | Failed | Cancelled)
}

/// Measures, tells, and writes `summary.json` and `report.html`.
pub(crate) async fn conclude(
    plan: &Plan,
    connection: &Connection,
    first: &FirstModel,
    replay: &Replay,
    story: &Story,
) -> Result<Summary> {
    let workflows = workflows(plan, connection).await?;
    let task = first.bundle.manifest.task;
    let rows = scored(plan, first, replay)?;
    let takeovers = takeovers(&rows);
    let after = takeovers.first().map_or(rows.len(), |&(_, _, index)| index);
    let score = |pick| (after < rows.len()).then(|| scoring::scores(task, &rows[after..], pick));
    let summary = Summary {
        requests: replay.requests,
        failed_requests: replay.failed_requests,
        rows: replay.rows,
        workflows: workflows.iter().map(summarize).collect(),
        unchanged: score(|row| &row.unchanged),
        live: score(|row| &row.live),
        events_published: events_published(connection).await?,
        time_to_respond_s: workflows.iter().filter_map(time_to_respond).max_by(f64::total_cmp),
        seconds: story.seconds(),
    };
    tell(&summary, story);
    let windows = by_window(task, &rows, plan.window);
    let moments: Vec<_> = takeovers.iter().map(|&(version, at, _)| (version, at)).collect();
    let material = report::Material {
        model: plan.model.as_str(),
        file: &plan.args.data.file_name().unwrap_or_default().to_string_lossy(),
        replicas: plan.args.replicas.into(),
        train_until: plan.args.train_until,
        from: rows.first().context("nothing was replayed")?.at,
        until: rows.last().context("nothing was replayed")?.at,
        label_delay: plan.args.label_delay,
        window: plan.window,
        metric: if task == Task::Regression { "mean absolute error" } else { "log loss" },
        summary: &summary,
        windows: &windows,
        takeovers: &moments,
        reports: &reports(plan, connection).await?,
        workflows: &workflows,
        versions: &versions(plan, connection).await?,
        timeline: &story.entries(),
    };
    write(plan, "report.html", &report::render(&material)?)?;
    write(plan, "summary.json", &serde_json::to_string_pretty(&summary)?)?;
    story.tell(format!("written: {}", plan.args.out.join("report.html").display()));
    Ok(summary)
}

fn write(plan: &Plan, name: &str, text: &str) -> Result<()> {
    let path = plan.args.out.join(name);
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn tell(summary: &Summary, story: &Story) {
    let (Some(unchanged), Some(live)) = (&summary.unchanged, &summary.live) else {
        story.tell("no redeploy happened, so there is nothing to compare");
        return;
    };
    if let (Some(unchanged), Some(live)) = (unchanged.headline(), live.headline()) {
        story.tell(format!("after the first redeploy: {live:.4} live, {unchanged:.4} had the first model been kept"));
    }
    if let Some(seconds) = summary.time_to_respond_s {
        story.tell(format!("longest from a window's close to the new version on every replica: {seconds:.1} s"));
    }
}

/// The answered rows beside the first model's answers.
fn scored(plan: &Plan, first: &FirstModel, replay: &Replay) -> Result<Vec<ScoredRow>> {
    let prediction = first.model.score(&plan.live.batch)?;
    let (width, scores) = prediction.scores();
    let unchanged: Vec<Output> =
        scores.chunks(width.max(1)).map(|row| row.iter().map(|&p| p.into()).collect()).collect();
    let times = plan.live.times(&plan.args.time)?;
    let truths = first.model.targets(&plan.live.batch)?;
    let answered = replay.answers.iter().enumerate().filter_map(|(row, answer)| Some((row, answer.as_ref()?)));
    Ok(answered
        .filter_map(|(row, answer)| {
            Some(ScoredRow {
                at: DateTime::from_timestamp_millis(times[row])?,
                version: answer.version,
                truth: target(&truths, row)?,
                live: answer.output.iter().map(|&element| f64::from(element)).collect(),
                unchanged: unchanged[row].clone(),
            })
        })
        .collect())
}

/// The truth of one row; `None` for a class that the first model does not know.
fn target(truths: &Targets, row: usize) -> Option<Target> {
    match truths {
        Targets::Classes(classes) => classes[row].map(Target::Class),
        Targets::Numbers(numbers) => Some(Target::Number(numbers[row])),
    }
}

/// Each later version, when it first answered (in the time of the data), and at which row.
fn takeovers(rows: &[ScoredRow]) -> Vec<(u32, chrono::DateTime<chrono::Utc>, usize)> {
    let mut first = BTreeMap::new();
    for (index, row) in rows.iter().enumerate() {
        first.entry(row.version).or_insert((row.at, index));
    }
    let mut found: Vec<_> = first.into_iter().map(|(version, (at, index))| (version, at, index)).collect();
    found.sort_by_key(|&(_, _, index)| index);
    found.split_off(1.min(found.len()))
}

fn summarize(workflow: &Workflow) -> WorkflowSummary {
    WorkflowSummary {
        id: workflow.id.clone(),
        trigger: workflow.trigger().as_str_name().trim_start_matches("TRIGGER_").to_lowercase(),
        state: report::state_name(workflow.state()).to_owned(),
        queued_at: workflow.queued_at.and_then(from_wire),
        serving_everywhere_at: workflow.serving_everywhere_at.and_then(from_wire),
        from_version: workflow.from_version,
        to_version: workflow.to_version,
    }
}

/// Seconds from the close of the window that alarmed to the new version answering everywhere.
fn time_to_respond(workflow: &Workflow) -> Option<f64> {
    let alarmed = matches!(workflow.trigger(), Trigger::Drift | Trigger::Degradation);
    alarmed.then(|| report::span(workflow.window_closed_at, workflow.serving_everywhere_at)).flatten()
}

async fn workflows(plan: &Plan, connection: &Connection) -> Result<Vec<Workflow>> {
    let (mut found, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListWorkflowsRequest { model: plan.model.to_string(), page_size: PAGE, page_token };
        let page = connection.orchestrator().list_workflows(request).await?.into_inner();
        found.extend(page.workflows);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            found.reverse();
            return Ok(found);
        }
    }
}

async fn reports(plan: &Plan, connection: &Connection) -> Result<Vec<WindowReport>> {
    let (mut found, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListReportsRequest { model: plan.model.to_string(), page_size: PAGE, page_token };
        let page = connection.monitor().list_reports(request).await?.into_inner();
        found.extend(page.reports);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(found);
        }
    }
}

async fn versions(plan: &Plan, connection: &Connection) -> Result<Vec<ModelVersion>> {
    let request =
        ListModelVersionsRequest { model: plan.model.to_string(), page_size: PAGE, page_token: String::new() };
    let mut found = connection.models().list_model_versions(request).await?.into_inner().versions;
    found.sort_by_key(|version| version.version);
    Ok(found)
}

async fn events_published(connection: &Connection) -> Result<u64> {
    let client = async_nats::connect(connection.nats()).await.context("cannot reach the bus")?;
    let stream = async_nats::jetstream::new(client).get_stream("REKINDLE_EVENTS").await?;
    Ok(stream.cached_info().state.last_sequence)
}
