//! Runs: created, reported on under a lease, and lost when the lease expires.

pub(crate) mod filter;
mod sample;
mod token;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
    time::Duration,
};

use chrono::{DateTime, Utc};
use rekindle_client::wire::event;
use rekindle_domain::{
    IdPrefix, RunId,
    audit::Entry,
    event::Fact,
    run::{Metric, NewRun, Run, RunEvent, RunProgress, RunReport, RunStatus, RunTransitionRefused},
    validation::Violations,
};
use rekindle_service::{Call, Intent, RequestError, only};
use rekindle_store::{audit, in_transaction, outbox};
use sea_orm::{DatabaseConnection, DatabaseTransaction};
use serde_json::{Value, json};
use uuid::Uuid;

use self::sample::Sample;
pub(crate) use self::token::{Cursor, Cursors, Token};
use crate::{
    Error,
    bounds::{Bounds, check_metrics, check_texts},
    config::Limits,
    logged_model::{ModelMetric, id_text},
    mlflow::RUN_NAME,
    open_lineage,
    store::{
        self,
        run_links::Link,
        runs::{Position, Search, metrics},
    },
};

/// Metrics in the event of the progress at most, and bytes of their names.
const ANNOUNCED_METRICS: usize = 100;
const ANNOUNCED_NAME: usize = 200;

/// A run as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Leased {
    /// The run. Its metrics are stored apart.
    pub run: Run,
    /// When the run is lost without a heartbeat; `None` once no worker holds it.
    pub lease_until: Option<DateTime<Utc>>,
    /// The lease that its creator has chosen.
    pub lease: Option<Duration>,
}

/// The leases of runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Leases {
    /// Of a run that waits for a worker.
    pub scheduled: Duration,
    /// Of a run that a worker has started.
    pub running: Duration,
}

impl Leases {
    /// The lease of a run that a worker has started.
    fn of(self, leased: &Leased) -> Duration {
        leased.lease.unwrap_or(self.running)
    }
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
        if let Some(id) = intent.earlier::<RunId, Error>(txn).await? {
            return Ok::<_, Error>(id);
        }
        if let Some(parent) = new.parent_id
            && store::runs::get(txn, parent).await?.is_none()
        {
            return Err(Error::not_found("parent run", parent));
        }
        let id = new.id.unwrap_or(RunId::new(call.id));
        if store::runs::get(txn, id).await?.is_some() {
            let message = format!("run {id} already exists: leave id empty, or read the run");
            let metadata = vec![("id", id.to_string())];
            return Err(RequestError::AlreadyExists { reason: "RUN_EXISTS", message, metadata }.into());
        }
        store::experiments::ensure(txn, &new.experiment, call.now).await?;
        store::runs::insert(txn, &scheduled(&new, id, call.now, leases)).await?;
        let after = json!({ "experiment": new.experiment }).to_string();
        audit::append(txn, Entry { after, ..call.entry("run.created", format!("run/{id}")) }).await?;
        intent.record(txn, &id, call.now).await?;
        Ok(id)
    })
    .await?;
    get(db, id).await
}

fn scheduled(new: &NewRun, id: RunId, now: DateTime<Utc>, leases: Leases) -> Leased {
    let NewRun { id: _, parent_id, experiment, params, tags, code_revision, dataset_digests, seed, lease } =
        new.clone();
    let run = Run {
        id,
        parent_id,
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
        progress: None,
        deleted_at: None,
        revision: 1,
    };
    Leased { run, lease_until: Some(now + leases.scheduled.max(lease.unwrap_or_default())), lease }
}

/// One run with the last point of each metric.
pub(crate) async fn get(db: &DatabaseConnection, id: RunId) -> Result<Run, Error> {
    let leased = store::runs::get(db, id).await?.ok_or_else(|| Error::not_found("run", id))?;
    Ok(with_metrics(db, vec![leased]).await?.remove(0))
}

/// The one run whose id begins so, with the last point of each metric.
pub(crate) async fn find(db: &DatabaseConnection, prefix: &IdPrefix) -> Result<Run, Error> {
    let found = store::runs::beginning_with(db, prefix, 2).await?;
    let ids: Vec<RunId> = found.iter().map(|leased| leased.run.id).collect();
    only("run", prefix, &ids)?;
    Ok(with_metrics(db, found).await?.remove(0))
}

/// Runs after a position, with the last point of each metric.
pub(crate) async fn search(
    db: &DatabaseConnection,
    search: &Search,
    after: Option<&Position>,
    limit: u64,
) -> Result<Vec<Run>, Error> {
    let runs = store::runs::search(db, search, after, limit).await?;
    with_metrics(db, runs).await
}

async fn with_metrics(db: &DatabaseConnection, runs: Vec<Leased>) -> Result<Vec<Run>, Error> {
    let mut runs: Vec<Run> = runs.into_iter().map(|leased| leased.run).collect();
    let ids: Vec<RunId> = runs.iter().map(|run| run.id).collect();
    let mut last = metrics::last(db, &ids).await?;
    for run in &mut runs {
        run.metrics = last.remove(&run.id).unwrap_or_default();
    }
    Ok(runs)
}

/// Moves a run along its lifecycle. A repeated report renews the lease of a running run and has no other effect.
pub(crate) async fn report(
    db: &DatabaseConnection,
    call: Call,
    id: RunId,
    report: RunReport,
    leases: Leases,
) -> Result<Run, Error> {
    in_transaction(db, async move |txn| {
        let leased = store::runs::get(txn, id).await?.ok_or_else(|| Error::not_found("run", id))?;
        let next = leased.run.status.after(event_of(&report)).map_err(|refused| refuse(&leased.run, refused))?;
        if next != leased.run.status {
            return advance(txn, &call, &leased, next, &report, leases).await;
        }
        if next == RunStatus::Running {
            let progress = progress_of(&report);
            store::runs::renew(txn, id, call.now + leases.of(&leased), progress).await?;
            if let Some(progress) = progress.filter(|progress| is_news(leased.run.progress.as_ref(), progress)) {
                announce(txn, &call, leased.run, progress).await?;
            }
        }
        Ok::<_, Error>(())
    })
    .await?;
    get(db, id).await
}

/// Whether subscribers get an event: of each stage, and of each tenth of it, so that a long run does not fill the stream.
fn is_news(before: Option<&RunProgress>, progress: &RunProgress) -> bool {
    let tenth = |progress: &RunProgress| progress.completed.saturating_mul(10) / progress.total.max(1);
    before.is_none_or(|before| before.stage != progress.stage || tenth(before) != tenth(progress))
}

/// Publishes how far a run is, with its metrics. It is no change that the audit trail records.
async fn announce(txn: &DatabaseTransaction, call: &Call, run: Run, progress: &RunProgress) -> Result<(), Error> {
    let mut metrics = metrics::last(txn, &[run.id]).await?.remove(&run.id).unwrap_or_default();
    // An event is small.
    metrics.truncate(ANNOUNCED_METRICS);
    metrics.retain(|metric| metric.name.len() <= ANNOUNCED_NAME);
    let run = Run { metrics, ..run };
    let event = call.change(event::run_progressed(&run, progress), &run.experiment).event;
    Ok(outbox::enqueue(txn, event).await?)
}

fn progress_of(report: &RunReport) -> Option<&RunProgress> {
    match report {
        RunReport::Progressed(progress) => Some(progress),
        _ => None,
    }
}

async fn advance(
    txn: &DatabaseTransaction,
    call: &Call,
    leased: &Leased,
    next: RunStatus,
    report: &RunReport,
    leases: Leases,
) -> Result<(), Error> {
    let (run, moved) = (&leased.run, moved(leased, next, report, call.now, leases));
    if !store::runs::update(txn, &moved, run.revision).await? {
        return Err(stale(run));
    }
    audit::record(txn, call.change(fact(&moved.run), &run.experiment).over(run.status.name())).await?;
    Ok(open_lineage::enqueue(txn, call, &moved.run).await?)
}

/// The run after a report; `next` is its status then.
fn moved(leased: &Leased, next: RunStatus, report: &RunReport, now: DateTime<Utc>, leases: Leases) -> Leased {
    let (run, lease) = (&leased.run, leased.lease);
    let mut moved = Run { status: next, revision: run.revision + 1, ..run.clone() };
    if next == RunStatus::Running {
        // A lost run continues: its first worker has started it.
        moved.started_at = run.started_at.or(Some(now));
        moved.ended_at = None;
        moved.error.clear();
        moved.progress = progress_of(report).cloned();
        return Leased { run: moved, lease_until: Some(now + leases.of(leased)), lease };
    }
    moved.ended_at = Some(now);
    // No worker continues it, so that its blob is garbage.
    moved.tags.remove(Run::CHECKPOINT);
    match report {
        RunReport::Running | RunReport::Progressed(_) => {}
        RunReport::Finished { outputs } => {
            moved.progress = None;
            moved.outputs = outputs.clone();
            moved.error.clear();
        }
        RunReport::Failed { error } | RunReport::Killed { error } => moved.error = error.clone(),
    }
    Leased { run: moved, lease_until: None, lease }
}

fn event_of(report: &RunReport) -> RunEvent {
    match report {
        RunReport::Running | RunReport::Progressed(_) => RunEvent::Start,
        RunReport::Finished { .. } => RunEvent::Finish,
        RunReport::Failed { .. } => RunEvent::Fail,
        RunReport::Killed { .. } => RunEvent::Kill,
    }
}

fn fact(run: &Run) -> Fact<Value> {
    match run.status {
        RunStatus::Running => event::run_started(run),
        RunStatus::Scheduled => event::run_changed(run, ""),
        _ => event::run_ended(run),
    }
}

fn refuse(run: &Run, refused: RunTransitionRefused) -> Error {
    let status = run.status.name();
    let message = format!("run {}: {refused}", run.id);
    let metadata = [("run_id", run.id.to_string()), ("status", status.to_owned())];
    Error::refused("RUN_TRANSITION_REFUSED", message, metadata)
}

fn stale(run: &Run) -> Error {
    let resource = format!("run {}", run.id);
    RequestError::StaleRevision { resource, expected: run.revision, actual: run.revision + 1 }.into()
}

/// What is logged to a run in one call: all of it or nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Batch {
    /// Written once.
    pub(crate) params: BTreeMap<String, String>,
    /// Names of tags that are deleted before others are set. Those that the run does not have are ignored.
    pub(crate) delete_tags: Vec<String>,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) metrics: Vec<Metric>,
    /// Those of the metrics that are of logged models.
    pub(crate) of_models: Vec<(Uuid, ModelMetric)>,
}

impl Batch {
    /// Checks everything but params and tags, which are checked with those that the run has.
    fn check(&self, limits: &Limits) -> Result<(), Violations> {
        let mut bounds = Bounds::new(limits);
        bounds.at_most("delete", self.delete_tags.len(), ("entries", limits.entries));
        bounds.finish()?;
        check_metrics(&self.metrics, limits)
    }

    /// The entry of the audit trail, which has no points: they are measurements and can be as many as predictions.
    fn entry(&self, call: &Call, id: RunId) -> Entry {
        let Self { params, delete_tags, tags, .. } = self;
        let after = json!({ "params": params, "deleted_tags": delete_tags, "tags": tags }).to_string();
        Entry { after, ..call.entry("run.logged", format!("run/{id}")) }
    }

    fn has_metrics_only(&self) -> bool {
        self.params.is_empty() && self.delete_tags.is_empty() && self.tags.is_empty()
    }

    /// Changes params and tags of a run.
    fn apply(&self, run: &mut Run, limits: &Limits) -> Result<(), Error> {
        for (name, value) in &self.params {
            if let Some(written) = run.params.get(name).filter(|written| *written != value) {
                return Err(param_exists(run.id, name, written, value));
            }
        }
        run.params.extend(self.params.clone());
        for name in &self.delete_tags {
            run.tags.remove(name);
        }
        run.tags.extend(self.tags.clone());
        check_texts("params", &run.params, limits)?;
        Ok(check_texts("tags", &run.tags, limits)?)
    }
}

fn param_exists(id: RunId, name: &str, written: &str, value: &str) -> Error {
    let short = |text: &str| text.chars().take(100).collect::<String>();
    let (written, value) = (short(written), short(value));
    let message = format!("the param {name} of run {id} is {written:?}, not {value:?}: params are written once");
    Error::refused("PARAM_EXISTS", message, [("param", name.to_owned())])
}

/// Logs a batch to a run that is not deleted, and renews its lease if it is running.
pub(crate) async fn log(
    db: &DatabaseConnection,
    id: RunId,
    batch: Batch,
    limits: Limits,
    leases: Leases,
    call: Call,
) -> Result<(), Error> {
    batch.check(&limits)?;
    let now = call.now;
    in_transaction(db, async move |txn| {
        let leased = store::runs::get(txn, id).await?.ok_or_else(|| Error::not_found("run", id))?;
        must_not_be_deleted(&leased.run)?;
        if !batch.has_metrics_only() {
            let mut run = leased.run.clone();
            batch.apply(&mut run, &limits)?;
            if run.status.is_terminal() {
                run.tags.remove(Run::CHECKPOINT);
            }
            if run != leased.run {
                write(txn, &leased, run).await?;
                audit::append(txn, batch.entry(&call, id)).await?;
            }
        }
        if leased.lease_until.is_some() && leased.run.status == RunStatus::Running {
            store::runs::renew(txn, id, now + leases.of(&leased), None).await?;
        }
        if batch.metrics.is_empty() {
            return Ok(());
        }
        for (model, metric) in &batch.of_models {
            if store::logged_models::get(txn, *model).await?.is_none_or(|found| found.deleted_at.is_some()) {
                return Err(Error::not_found("logged model", id_text(*model)));
            }
            let bytes = metric.name.len() + metric.dataset_name.len() + metric.dataset_digest.len();
            if bytes > store::KEY_BYTES {
                let problem =
                    format!("has {bytes} bytes of names with its dataset: expected at most {}", store::KEY_BYTES);
                return Err(Error::invalid("metrics", problem));
            }
            store::logged_models::put_metric(txn, *model, metric).await?;
        }
        let given: BTreeSet<&str> = batch.metrics.iter().map(|metric| metric.name.as_str()).collect();
        check_names(given.len(), limits.entries)?;
        let known = metrics::known(txn, id, &given).await?;
        if known.len() < given.len() {
            let had = usize::try_from(metrics::count(txn, id).await?).unwrap_or(usize::MAX);
            check_names(had.saturating_add(given.len() - known.len()), limits.entries)?;
        }
        Ok::<_, Error>(metrics::append(txn, id, &batch.metrics, &known, now).await?)
    })
    .await
}

/// Refuses points that give a run too many metrics.
fn check_names(names: usize, limit: usize) -> Result<(), Error> {
    if names <= limit {
        return Ok(());
    }
    let problem = format!("gives the run {names} metrics or more: the limit registry.limits.entries is {limit}");
    Err(Error::invalid("metrics", problem))
}

fn must_not_be_deleted(run: &Run) -> Result<(), Error> {
    match run.deleted_at {
        None => Ok(()),
        Some(_) => Err(Error::refused("RUN_DELETED", format!("run {} is deleted: restore it first", run.id), [])),
    }
}

/// Writes the next revision of a run.
async fn write(txn: &DatabaseTransaction, read: &Leased, run: Run) -> Result<(), Error> {
    let next = Leased { run: Run { revision: read.run.revision + 1, ..run }, ..read.clone() };
    if store::runs::update(txn, &next, read.run.revision).await? { Ok(()) } else { Err(stale(&read.run)) }
}

/// Creates a run that its creator executes, without a lease: it is never lost.
pub(crate) async fn create_started(
    db: &DatabaseConnection,
    call: Call,
    new: NewRun,
    started_at: DateTime<Utc>,
    limits: Limits,
) -> Result<Run, Error> {
    check_texts("tags", &new.tags, &limits)?;
    let id = RunId::new(call.id);
    in_transaction(db, async move |txn| {
        let none = Leases { scheduled: Duration::ZERO, running: Duration::ZERO };
        let run = scheduled(&new, id, call.now, none).run;
        let run = Run { status: RunStatus::Running, started_at: Some(started_at), ..run };
        store::experiments::ensure(txn, &run.experiment, call.now).await?;
        store::runs::insert(txn, &Leased { run: run.clone(), lease_until: None, lease: None }).await?;
        audit::record(txn, call.change(event::run_started(&run), &run.experiment)).await?;
        Ok::<_, Error>(open_lineage::enqueue(txn, &call, &run).await?)
    })
    .await?;
    get(db, id).await
}

/// Sets the status of a run that has no lease: its creator may also continue it after its end.
pub(crate) async fn set_status(
    db: &DatabaseConnection,
    call: Call,
    id: RunId,
    status: RunStatus,
    ended_at: Option<DateTime<Utc>>,
) -> Result<(), Error> {
    in_transaction(db, async move |txn| {
        let leased = store::runs::get(txn, id).await?.ok_or_else(|| Error::not_found("run", id))?;
        must_not_be_deleted(&leased.run)?;
        if !leased.run.tags.contains_key(RUN_NAME) || leased.lease_until.is_some() {
            let message = format!("run {id} belongs to a worker of this platform, which reports its status");
            return Err(Error::refused("RUN_HAS_WORKER", message, []));
        }
        let ended_at = status.is_terminal().then(|| ended_at.unwrap_or(call.now));
        let run = Run { status, ended_at, ..leased.run.clone() };
        if run == leased.run {
            return Ok(());
        }
        write(txn, &leased, run.clone()).await?;
        if run.status == leased.run.status {
            return Ok(());
        }
        let change = call.change(fact(&run), &run.experiment);
        audit::record(txn, change.over(leased.run.status.name())).await?;
        Ok::<_, Error>(open_lineage::enqueue(txn, &call, &run).await?)
    })
    .await
}

/// A deletion of a run, or its restoration.
#[derive(Debug, Clone, Default)]
pub(crate) struct Deletion {
    pub(crate) why: String,
    /// Deleted, or restored.
    pub(crate) is_deleted: bool,
    /// Whether a run in progress may be deleted, as MLflow's clients expect.
    pub(crate) in_progress: bool,
}

/// Deletes a run, or restores it. Lists leave deleted runs out; nothing of them is lost.
pub(crate) async fn set_deleted(
    db: &DatabaseConnection,
    call: Call,
    id: RunId,
    deletion: Deletion,
) -> Result<(), Error> {
    in_transaction(db, async move |txn| {
        let Deletion { why, is_deleted, in_progress } = &deletion;
        let leased = store::runs::get(txn, id).await?.ok_or_else(|| Error::not_found("run", id))?;
        let before = &leased.run;
        if before.deleted_at.is_some() == *is_deleted {
            return Ok(());
        }
        if *is_deleted {
            must_not_be_used(txn, before, *in_progress).await?;
        }
        let after = Run { deleted_at: is_deleted.then_some(call.now), ..before.clone() };
        write(txn, &leased, after.clone()).await?;
        let change = call.change(event::run_changed(&after, why), &after.experiment);
        Ok(audit::record(txn, change.over(event::run_changed(before, "").data)).await?)
    })
    .await
}

/// Refuses to delete a run that made a model version which is not deleted, and one in progress unless that is accepted.
async fn must_not_be_used(txn: &DatabaseTransaction, run: &Run, in_progress: bool) -> Result<(), Error> {
    const NAMED: u64 = 10;
    let refused = |users: String, advice: &str| {
        let message = format!("run {} cannot be deleted: {users}; {advice}", run.id);
        Err(Error::refused("RUN_IN_USE", message, [("run", run.id.to_string()), ("users", users)]))
    };
    if !in_progress && matches!(run.status, RunStatus::Scheduled | RunStatus::Running) {
        return refused(format!("it is {}", run.status.name()), "end it first");
    }
    let made: Vec<String> = store::models::live_of_run(txn, run.id, NAMED)
        .await?
        .iter()
        .map(|found| format!("model-version/{}/{}", found.version.model, found.version.version))
        .collect();
    if made.is_empty() { Ok(()) } else { refused(format!("it made {}", made.join(", ")), "delete these first") }
}

/// Datasets and models that a run has read and written at most.
const LINKS: usize = 1000;

/// Records what a run that is not deleted has read and written.
pub(crate) async fn link(db: &DatabaseConnection, call: Call, id: RunId, links: Vec<Link>) -> Result<(), Error> {
    in_transaction(db, async move |txn| {
        let leased = store::runs::get(txn, id).await?.ok_or_else(|| Error::not_found("run", id))?;
        must_not_be_deleted(&leased.run)?;
        let keys: Vec<&str> = links.iter().map(|link| link.key.as_str()).collect();
        let entry = call.entry("run.linked", format!("run/{id}"));
        audit::append(txn, Entry { after: json!(keys).to_string(), ..entry }).await?;
        let earlier = store::run_links::of_runs(txn, &[id]).await?.remove(&id).unwrap_or_default();
        let links: Vec<Link> = links.iter().map(|link| link.clone().with_tags_of(&earlier)).collect();
        let is_new = |link: &&Link| !earlier.iter().any(|other| (other.kind, &other.key) == (link.kind, &link.key));
        let new: BTreeSet<_> =
            links.iter().filter(is_new).map(|link| (format!("{:?}", link.kind), &link.key)).collect();
        let all = earlier.len() + new.len();
        if all > LINKS && !new.is_empty() {
            return Err(Error::invalid(
                "inputs",
                format!("gives the run {all} inputs and outputs: expected at most {LINKS}"),
            ));
        }
        Ok::<_, Error>(store::run_links::put(txn, id, &links, call.now).await?)
    })
    .await
}

/// Names that the refusal of an unknown metric lists.
const NAMES: u64 = 100;

/// The points of one metric, by step, after a step, at most `limit`.
pub(crate) async fn metric_history(
    db: &DatabaseConnection,
    id: RunId,
    name: &str,
    after: Option<i64>,
    limit: u64,
) -> Result<Vec<Metric>, Error> {
    if store::runs::get(db, id).await?.is_none() {
        return Err(Error::not_found("run", id));
    }
    let points = metrics::history(db, id, name, after, limit).await?;
    if points.is_empty() && after.is_none() {
        return Err(unknown_metric(name, &metrics::names(db, id, NAMES).await?));
    }
    Ok(points)
}

/// At most `max_points` points of one metric, by step.
pub(crate) async fn metric_sample(
    db: &DatabaseConnection,
    id: RunId,
    name: &str,
    steps: RangeInclusive<i64>,
    max_points: usize,
) -> Result<Vec<Metric>, Error> {
    let count = if steps == ALL_STEPS {
        // A run that does not exist, or a metric that it does not have.
        metric_history(db, id, name, None, 1).await?;
        metrics::points(db, id, name).await?
    } else {
        let mut count = 0;
        each_point(db, id, name, &steps, |_| count += 1).await?;
        count
    };
    let mut sample = Sample::new(count, max_points);
    each_point(db, id, name, &steps, |point| sample.add(point)).await?;
    Ok(sample.finish())
}

/// Every step.
pub(crate) const ALL_STEPS: RangeInclusive<i64> = i64::MIN..=i64::MAX;

/// Calls `take` with each point of a metric in a range of steps, by step.
async fn each_point(
    db: &DatabaseConnection,
    id: RunId,
    name: &str,
    steps: &RangeInclusive<i64>,
    mut take: impl FnMut(Metric),
) -> Result<(), Error> {
    /// Points read at a time.
    const AT_ONCE: u64 = 50_000;
    let mut after = steps.start().checked_sub(1);
    loop {
        let points = metrics::history(db, id, name, after, AT_ONCE).await?;
        let Some(last) = points.last() else { return Ok(()) };
        after = Some(last.step);
        let is_over = last.step > *steps.end();
        points.into_iter().filter(|point| steps.contains(&point.step)).for_each(&mut take);
        if is_over {
            return Ok(());
        }
    }
}

/// A name without a point is not that of a metric.
fn unknown_metric(name: &str, known: &[String]) -> Error {
    let expected = match known {
        [] => "the run has no metrics yet".to_owned(),
        known => format!("expected one of {}", known.join(", ")),
    };
    Error::invalid("name", format!("is {name:?}: {expected}"))
}

/// Marks the run as lost if its lease has expired by the time of the call; returns whether it had.
pub(crate) async fn lose_if_expired(db: &DatabaseConnection, call: Call, id: RunId) -> Result<bool, Error> {
    in_transaction(db, async move |txn| {
        let Some(leased) = store::runs::get(txn, id).await? else { return Ok(false) };
        let (run, Some(until)) = (&leased.run, leased.lease_until) else { return Ok(false) };
        let Ok(next) = run.status.after(RunEvent::Lose) else { return Ok(false) };
        if until >= call.now {
            return Ok(false);
        }
        let none = Leases { scheduled: Duration::ZERO, running: Duration::ZERO };
        let mut lost = moved(&leased, next, &RunReport::Running, call.now, none);
        lost.run.error = format!("no heartbeat since {}", until.to_rfc3339());
        if !store::runs::update(txn, &lost, run.revision).await? {
            return Ok(false);
        }
        audit::record(txn, call.change(fact(&lost.run), &run.experiment).over(run.status.name())).await?;
        Ok::<_, Error>(true)
    })
    .await
}

/// Marks every run whose lease has expired as lost; returns how many. `new_call` gives each its event id.
pub(crate) async fn reap(
    db: &DatabaseConnection,
    now: DateTime<Utc>,
    new_call: impl Fn() -> Call,
) -> Result<usize, Error> {
    const BATCH: u64 = 100;
    let mut lost = 0;
    loop {
        let mut lost_now = 0;
        for id in store::runs::expired(db, now, BATCH).await? {
            let call = Call { now, ..new_call() };
            if lose_if_expired(db, call, id).await? {
                tracing::warn!(run_id = %id, "run lost: its lease expired");
                lost_now += 1;
            }
        }
        lost += lost_now;
        if lost_now == 0 {
            return Ok(lost);
        }
    }
}

#[cfg(test)]
mod tests;
