//! Runs: created, reported on under a lease, and lost when their worker falls silent.

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, Utc};
use rekindle_domain::{
    Digest, ExperimentName, RunId,
    event::EventKind,
    run::{RunEvent, RunStatus, RunTransitionRefused},
};
use rekindle_proto::events::{RunEnded, RunStarted};
use rekindle_store::{in_transaction, outbox};
use sea_orm::{DatabaseConnection, DatabaseTransaction};

use crate::{
    Error,
    call::{Call, Intent},
    store,
};

/// One training or evaluation.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Run {
    pub id: RunId,
    pub experiment: ExperimentName,
    pub status: RunStatus,
    pub params: BTreeMap<String, String>,
    pub tags: BTreeMap<String, String>,
    pub code_revision: String,
    pub dataset_digests: Vec<Digest>,
    pub seed: u64,
    /// The last point of each metric; read only for answers.
    pub metrics: Vec<Metric>,
    pub outputs: BTreeMap<String, String>,
    pub error: String,
    pub created_at: DateTime<Utc>,
    pub started_at: Option<DateTime<Utc>>,
    pub ended_at: Option<DateTime<Utc>>,
    /// When silence is taken for death; `None` once nobody holds it.
    pub lease_until: Option<DateTime<Utc>>,
    pub revision: u64,
}

/// One point of a metric.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Metric {
    pub name: String,
    pub value: f64,
    pub step: i64,
    pub time: DateTime<Utc>,
}

/// What a caller says of a new run.
#[derive(Debug, Clone)]
pub(crate) struct NewRun {
    pub id: RunId,
    pub experiment: ExperimentName,
    pub params: BTreeMap<String, String>,
    pub tags: BTreeMap<String, String>,
    pub code_revision: String,
    pub dataset_digests: Vec<Digest>,
    pub seed: u64,
}

/// What a worker or a caller reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Report {
    Running,
    Finished { outputs: BTreeMap<String, String> },
    Failed { error: String },
    Killed { error: String },
}

/// How long runs may be silent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Leases {
    /// Of a run that waits for a worker.
    pub scheduled: Duration,
    /// Of a run that a worker has taken.
    pub running: Duration,
}

/// Creates a run, once per intent.
pub(crate) async fn create(
    db: &DatabaseConnection,
    call: Call,
    intent: Intent,
    new: NewRun,
    leases: Leases,
) -> Result<Run, Error> {
    let id = in_transaction(db, async move |txn| {
        if let Some(id) = intent.earlier::<RunId>(txn).await? {
            return Ok::<_, Error>(id);
        }
        if store::runs::get(txn, new.id).await?.is_some() {
            return Err(Error::RunExists { id: new.id.to_string() });
        }
        store::runs::insert(txn, &scheduled(&new, call.now, leases)).await?;
        intent.remember(txn, &new.id, call.now).await?;
        Ok(new.id)
    })
    .await?;
    get(db, id).await
}

fn scheduled(new: &NewRun, now: DateTime<Utc>, leases: Leases) -> Run {
    let NewRun { id, experiment, params, tags, code_revision, dataset_digests, seed } = new.clone();
    Run {
        id,
        experiment,
        status: RunStatus::Scheduled,
        params,
        tags,
        code_revision,
        dataset_digests,
        seed,
        metrics: Vec::new(),
        outputs: BTreeMap::new(),
        error: String::new(),
        created_at: now,
        started_at: None,
        ended_at: None,
        lease_until: Some(now + leases.scheduled),
        revision: 1,
    }
}

/// One run with the last point of each metric.
pub(crate) async fn get(db: &DatabaseConnection, id: RunId) -> Result<Run, Error> {
    let run = store::runs::get(db, id).await?.ok_or_else(|| Error::not_found("run", id))?;
    Ok(with_metrics(db, vec![run]).await?.remove(0))
}

/// Runs, newest first, with the last point of each metric.
pub(crate) async fn list(
    db: &DatabaseConnection,
    experiment: Option<&ExperimentName>,
    after: Option<(DateTime<Utc>, RunId)>,
    limit: u64,
) -> Result<Vec<Run>, Error> {
    let runs = store::runs::list(db, experiment, after, limit).await?;
    with_metrics(db, runs).await
}

async fn with_metrics(db: &DatabaseConnection, mut runs: Vec<Run>) -> Result<Vec<Run>, Error> {
    let ids: Vec<RunId> = runs.iter().map(|run| run.id).collect();
    let mut metrics = store::runs::last_metrics(db, &ids).await?;
    for run in &mut runs {
        run.metrics = metrics.remove(&run.id).unwrap_or_default();
    }
    Ok(runs)
}

/// Moves a run along its lifecycle. A repeated report renews the lease of a running run and changes nothing else.
pub(crate) async fn report(
    db: &DatabaseConnection,
    call: Call,
    id: RunId,
    report: Report,
    leases: Leases,
) -> Result<Run, Error> {
    in_transaction(db, async move |txn| {
        let run = store::runs::get(txn, id).await?.ok_or_else(|| Error::not_found("run", id))?;
        let next = run.status.after(report.event()).map_err(|refused| refuse(&run, refused))?;
        if next != run.status {
            return advance(txn, &call, &run, next, &report, leases).await;
        }
        if next == RunStatus::Running {
            store::runs::renew(txn, id, call.now + leases.running).await?;
        }
        Ok::<_, Error>(())
    })
    .await?;
    get(db, id).await
}

async fn advance(
    txn: &DatabaseTransaction,
    call: &Call,
    run: &Run,
    next: RunStatus,
    report: &Report,
    leases: Leases,
) -> Result<(), Error> {
    let moved = moved(run, next, report, call.now, leases);
    if !store::runs::update(txn, &moved, run.revision).await? {
        return Err(stale(run));
    }
    outbox::enqueue(txn, event(call, &moved)).await?;
    Ok(())
}

/// The run after a report; `next` is what its status becomes.
fn moved(run: &Run, next: RunStatus, report: &Report, now: DateTime<Utc>, leases: Leases) -> Run {
    let mut moved = Run { status: next, revision: run.revision + 1, ..run.clone() };
    if next == RunStatus::Running {
        // A run that was lost and is taken again starts anew.
        moved.started_at = Some(now);
        moved.ended_at = None;
        moved.error.clear();
        moved.lease_until = Some(now + leases.running);
        return moved;
    }
    moved.ended_at = Some(now);
    moved.lease_until = None;
    match report {
        Report::Running => {}
        Report::Finished { outputs } => {
            moved.outputs = outputs.clone();
            moved.error.clear();
        }
        Report::Failed { error } | Report::Killed { error } => moved.error = error.clone(),
    }
    moved
}

impl Report {
    fn event(&self) -> RunEvent {
        match self {
            Self::Running => RunEvent::Start,
            Self::Finished { .. } => RunEvent::Finish,
            Self::Failed { .. } => RunEvent::Fail,
            Self::Killed { .. } => RunEvent::Kill,
        }
    }
}

/// A status as events and errors spell it.
pub(crate) fn status_text(status: RunStatus) -> &'static str {
    match status {
        RunStatus::Scheduled => "SCHEDULED",
        RunStatus::Running => "RUNNING",
        RunStatus::Finished => "FINISHED",
        RunStatus::Failed => "FAILED",
        RunStatus::Killed => "KILLED",
        RunStatus::Lost => "LOST",
    }
}

fn refuse(run: &Run, refused: RunTransitionRefused) -> Error {
    let status = status_text(run.status);
    Error::Refused {
        reason: "RUN_TRANSITION_REFUSED",
        message: format!("run {} is {status}: {refused}", run.id),
        facts: vec![("run_id", run.id.to_string()), ("status", status.to_owned())],
    }
}

fn stale(run: &Run) -> Error {
    Error::Stale { what: format!("run {}", run.id), expected: run.revision, actual: run.revision + 1 }
}

fn event(call: &Call, run: &Run) -> outbox::NewEvent {
    let (id, experiment) = (run.id.to_string(), run.experiment.to_string());
    if run.status == RunStatus::Running {
        let data = RunStarted { run_id: id, experiment };
        return call.event(EventKind::RUN_STARTED, run.id, &run.experiment, &data);
    }
    let data = RunEnded {
        run_id: id,
        experiment,
        status: status_text(run.status).to_owned(),
        outputs: run.outputs.clone().into_iter().collect(),
        error: run.error.clone(),
    };
    call.event(EventKind::RUN_ENDED, run.id, &run.experiment, &data)
}

/// Adds points to a run that has not ended otherwise than well.
pub(crate) async fn log_metrics(db: &DatabaseConnection, id: RunId, metrics: Vec<Metric>) -> Result<(), Error> {
    in_transaction(db, async move |txn| {
        if store::runs::get(txn, id).await?.is_none() {
            return Err(Error::not_found("run", id));
        }
        Ok(store::runs::put_metrics(txn, id, &metrics).await?)
    })
    .await
}

/// Every point of one metric, by step; at most `limit`.
pub(crate) async fn metric_history(
    db: &DatabaseConnection,
    id: RunId,
    name: &str,
    limit: u64,
) -> Result<Vec<Metric>, Error> {
    if store::runs::get(db, id).await?.is_none() {
        return Err(Error::not_found("run", id));
    }
    Ok(store::runs::metric_history(db, id, name, limit).await?)
}

/// Marks the run as lost if its lease has run out by the call's time; tells whether it was.
pub(crate) async fn lose_if_silent(db: &DatabaseConnection, call: Call, id: RunId) -> Result<bool, Error> {
    in_transaction(db, async move |txn| {
        let Some(run) = store::runs::get(txn, id).await? else { return Ok(false) };
        if run.lease_until.is_none_or(|until| until >= call.now) {
            return Ok(false);
        }
        let Ok(next) = run.status.after(RunEvent::Lose) else { return Ok(false) };
        let mut lost = moved(
            &run,
            next,
            &Report::Running,
            call.now,
            Leases { scheduled: Duration::ZERO, running: Duration::ZERO },
        );
        lost.error = format!("nothing was heard of it since {}", run.lease_until.unwrap_or(call.now).to_rfc3339());
        if !store::runs::update(txn, &lost, run.revision).await? {
            return Ok(false);
        }
        outbox::enqueue(txn, event(&call, &lost)).await?;
        Ok::<_, Error>(true)
    })
    .await
}

/// Marks every run whose lease has run out as lost; returns how many. `new_call` gives each its own time and event id.
pub(crate) async fn reap(
    db: &DatabaseConnection,
    now: DateTime<Utc>,
    new_call: impl Fn() -> Call,
) -> Result<usize, Error> {
    const AT_ONCE: u64 = 100;
    let mut lost = 0;
    loop {
        let silent = store::runs::silent(db, now, AT_ONCE).await?;
        let mut lost_now = 0;
        for id in silent {
            let call = Call { now, ..new_call() };
            if lose_if_silent(db, call, id).await? {
                tracing::warn!(run_id = %id, "run is lost: its lease ran out");
                lost_now += 1;
            }
        }
        lost += lost_now;
        if lost_now == 0 {
            return Ok(lost);
        }
    }
}
