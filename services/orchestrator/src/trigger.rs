//! Triggers: alerts of the monitor, measured windows, new dataset versions and schedules start workflows, as the policy of the model says. A degradation of a
//! version that is being rolled out returns every replica to the stable version instead, unless that one is not shown to be better.
//!
//! A trigger that starts nothing is recorded with its reason, unless the policy does not have it.

mod alert;
mod decision;
mod return_helps;
mod schedule;

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use rekindle_bus::{
    cloudevent::{self, CloudEvent},
    consumer::{self, Consumer, Disposition},
    streams::EVENTS,
    subject,
};
use rekindle_domain::{Trigger, WorkflowId, WorkflowState, event::EventKind, report::WindowReport, rollout::Forward};
use rekindle_service::{Fault as _, chain};
use rekindle_store::{in_transaction, inbox};
use sea_orm::{ConnectionTrait, DatabaseTransaction};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub(crate) use self::schedule::run as run_schedules;
use self::{
    alert::Asked,
    decision::{About, Ignored, Request, Situation, decide, rejected_in_a_row},
};
use crate::{
    Error,
    core::{Core, now},
    deployment::{self, Origin, Record},
    store::{deployments, ignored, policies, workflows},
    workflow::{self, Cause, Workflow, progress::DatasetRef},
};

const CONSUMER: &str = "orchestrator-triggers";
/// Workflows of a model among which rejected ones are counted.
const HISTORY: u64 = 16;
/// How often, and at which interval, the reports of a window are read until both versions of a rollout are measured.
const ATTEMPTS: u32 = 5;
const BETWEEN_ATTEMPTS: Duration = Duration::from_secs(1);

/// What a request led to.
type Processed = Result<Started, Ignored>;

/// The effect of a request.
#[derive(Debug)]
enum Started {
    /// A workflow is queued.
    Queued(Box<Workflow>),
    /// Every replica returns to the stable version.
    Returned(Box<Record>),
}

/// The consumer of alerts. An alert is published once, so it is redelivered until transient failures have passed.
fn listener() -> Consumer {
    let kinds = [
        EventKind::DRIFT_DETECTED,
        EventKind::DEGRADATION_DETECTED,
        EventKind::WINDOW_REPORTED,
        EventKind::DATASET_VERSION_REGISTERED,
    ];
    Consumer { max_deliveries: u64::MAX, ..Consumer::new(CONSUMER, EVENTS, kinds.map(subject::events_of)) }
}

/// Consumes alerts and dataset versions until `shutdown`.
pub(crate) async fn run(core: Arc<Core>, shutdown: CancellationToken) -> Result<(), Error> {
    let spec = listener();
    let bus = core.bus.clone();
    let handle = async move |message: rekindle_bus::Message| {
        let event = match cloudevent::from_message(&message) {
            Ok(event) => event,
            Err(error) => return Disposition::DeadLetter(chain(&error)),
        };
        match process(&core, &event, now()).await {
            Ok(()) => Disposition::Ack,
            Err(error) => failed(&error),
        }
    };
    Ok(consumer::run(bus, spec, handle, shutdown).await?)
}

/// Only an alert that can never be processed becomes a dead letter.
fn failed(error: &Error) -> Disposition {
    let reason = chain(error);
    if error.is_transient() { Disposition::Nak(reason) } else { Disposition::DeadLetter(reason) }
}

async fn process(core: &Core, event: &CloudEvent, now: DateTime<Utc>) -> Result<(), Error> {
    match alert::read(event)? {
        Asked::Retraining(mut request) => {
            let stays = return_refuted(core, event, &request).await?;
            if let Some(why) = &stays {
                request.cause.words = format!("{}; {why}", request.cause.words);
            }
            let (identity, given, may_return) = (event.identity(), request.clone(), stays.is_none());
            let processed =
                in_transaction(&core.db, async move |txn| consider(txn, &identity, &given, may_return, now).await)
                    .await?;
            announce(core, &request, processed);
        }
        Asked::Nothing => {}
        Asked::Dataset(dataset) => {
            let given = event.clone();
            let processed =
                in_transaction(&core.db, async move |txn| consider_dataset(txn, &given, &dataset, now).await).await?;
            for (request, processed) in processed {
                announce(core, &request, processed);
            }
        }
    }
    Ok(())
}

/// Logs and counts what a request led to, and wakes the reconcilers.
fn announce(core: &Core, request: &Request, processed: Processed) {
    let (model, trigger, cause) = (&request.model, request.cause.trigger.name(), &request.cause.words);
    match processed {
        Ok(Started::Queued(workflow)) => {
            tracing::info!(%model, trigger, workflow = %workflow.id, cause, "workflow queued");
            core.wake();
        }
        Ok(Started::Returned(record)) => core.deployment_changed(&record),
        Err(ignored) => {
            let reason = ignored.name();
            tracing::info!(%model, trigger, reason, cause, "trigger ignored");
            metrics::counter!("rekindle_triggers_ignored_total", "reason" => reason).increment(1);
        }
    }
}

/// Considers an alert, once.
async fn consider(
    txn: &DatabaseTransaction,
    identity: &str,
    request: &Request,
    may_return: bool,
    now: DateTime<Utc>,
) -> Result<Processed, Error> {
    let first_time = inbox::first_time(txn, CONSUMER, identity, now).await?;
    // Drift and degradation of one window share their correlation id, and start one workflow, unless that did not succeed: on drift the
    // outcomes may not have arrived yet, and a workflow with too few labelled rows is rejected that has enough of them on degradation.
    let first = workflows::get(txn, request.cause.id).await?;
    if !first_time || first.as_ref().is_some_and(|first| settles(first.state)) {
        return Ok(Err(Ignored::Repeated));
    }
    let degraded = if may_return { being_rolled_out(txn, request).await? } else { None };
    if let Some((record, version)) = degraded {
        let reason = format!("version {version} was being rolled out: {}", request.cause.words);
        let record = deployment::turn_back(txn, &record, &reason, now).await?;
        return Ok(Ok(Started::Returned(Box::new(record))));
    }
    let mut request = request.clone();
    if let Some(first) = first {
        let id = WorkflowId::new(Uuid::now_v7());
        request.cause = Cause { id, first: Some(first.id), ..request.cause };
    }
    admit(txn, request, now).await
}

/// The deployment and the version that is being rolled out, if a request is about a degradation of it: that is what a rollout observes it for,
/// whatever the policy.
async fn being_rolled_out(db: &impl ConnectionTrait, request: &Request) -> Result<Option<(Record, u32)>, Error> {
    let About::Window { version, has_data_fault: false, .. } = request.about else { return Ok(None) };
    if request.cause.trigger != Trigger::Degradation {
        return Ok(None);
    }
    let record = deployments::get(db, &request.model).await?;
    // A rollback replaces a version that is worse, and what the version did before this rollout is no finding about it.
    let is_target = |record: &Record| {
        let forward = record.deployment.forward().filter(|forward| forward.target.version == version);
        let since = forward.and_then(Forward::began_at).filter(|_| record.request.origin != Origin::Rollback);
        since.is_some_and(|since| request.cause.window_closed_at.is_some_and(|closed| closed > since))
    };
    Ok(record.filter(is_target).map(|record| (record, version)))
}

/// Why the return of the version that is being rolled out does not help, according to the reports of both versions. Without them it returns, which
/// is the safe choice.
async fn return_refuted(core: &Core, event: &CloudEvent, request: &Request) -> Result<Option<String>, Error> {
    let Some((record, version)) = being_rolled_out(&core.db, request).await? else { return Ok(None) };
    let Some(until) = request.cause.window_until else { return Ok(None) };
    let (calls, stable) = (core.peers.on_behalf_of(event.context.clone()), record.deployment.stable.version);
    let is_of = |version| {
        move |report: &&WindowReport| report.window.version.version == version && report.window.until == until
    };
    let mut attempts = 1..=ATTEMPTS;
    loop {
        attempts.next();
        let reports = match calls.reports_since(&request.model, until).await {
            Ok(reports) => reports,
            Err(error) => {
                let model = &request.model;
                tracing::warn!(%model, error = chain(&error), "the reports of the versions of a rollout cannot be read");
                return Ok(None);
            }
        };
        let is_pending = reports.iter().find(is_of(stable)).is_some_and(|report| report.quality.is_none());
        if !is_pending || attempts.is_empty() {
            let target = reports.iter().find(is_of(version));
            return Ok(target.and_then(|target| return_helps::refuted(&reports, target, stable)));
        }
        // The quality of each version is measured on its own.
        tokio::time::sleep(BETWEEN_ATTEMPTS).await;
    }
}

/// Considers a dataset version, once, for every model whose policy has its dataset. A version that a workflow registered is part of that
/// workflow.
async fn consider_dataset(
    txn: &DatabaseTransaction,
    event: &CloudEvent,
    dataset: &DatasetRef,
    now: DateTime<Utc>,
) -> Result<Vec<(Request, Processed)>, Error> {
    let mut processed = Vec::new();
    if !inbox::first_time(txn, CONSUMER, &event.identity(), now).await? {
        return Ok(processed);
    }
    if let Ok(id) = event.context.correlation_id.parse::<WorkflowId>()
        && workflows::get(txn, id).await?.is_some()
    {
        return Ok(processed);
    }
    for policy in policies::of_dataset(txn, &dataset.name).await? {
        let id = WorkflowId::new(Uuid::now_v7());
        let request = alert::on_dataset(id, policy.model, event, dataset.clone());
        let result = admit(txn, request.clone(), now).await?;
        processed.push((request, result));
    }
    Ok(processed)
}

/// Queues a workflow, or records why it does not.
async fn admit(txn: &DatabaseTransaction, request: Request, now: DateTime<Utc>) -> Result<Processed, Error> {
    let model = &request.model;
    let policy = policies::get(txn, model).await?;
    let mut situation = Situation {
        policy: policy.as_ref().map(|revised| &revised.policy),
        stable: deployments::get(txn, model).await?.map(|record| record.deployment.stable.version),
        is_active: workflows::active_of(txn, model).await?.is_some(),
        ..Situation::default()
    };
    if let Some(policy) = situation.policy.filter(|_| !situation.is_active) {
        situation.last_window = workflows::last_window(txn, model).await?;
        situation.rejected = rejected_in_a_row(policy, &workflows::latest(txn, model, HISTORY).await?);
        situation.trainings = workflows::trainings_since(txn, model, now - TimeDelta::days(1)).await?;
    }
    match decide(&request, &situation) {
        Err(ignored) => {
            note(txn, &request, &ignored, now).await?;
            Ok(Err(ignored))
        }
        Ok(policy) => {
            let workflow = Workflow::queued(request.cause, policy.clone(), now);
            workflow::add(txn, &workflow).await?;
            Ok(Ok(Started::Queued(Box::new(workflow))))
        }
    }
}

/// Records why a request starts nothing, where the policy has its trigger.
async fn note(
    txn: &DatabaseTransaction,
    request: &Request,
    ignored: &Ignored,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let Ignored::Because(reason, why) = ignored else { return Ok(()) };
    let explanation = format!("{}: {why}", request.cause.words);
    ignored::note(txn, &request.model, request.cause.trigger, *reason, explanation, now).await
}

/// Whether a workflow settles every alert of its window: it may still succeed, or has.
const fn settles(state: WorkflowState) -> bool {
    !state.is_terminal() || matches!(state, WorkflowState::Succeeded)
}

#[cfg(test)]
mod tests;
