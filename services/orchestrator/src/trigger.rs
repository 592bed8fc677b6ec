//! What starts a workflow without being asked: alerts of the monitor, by the model's policy.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use rekindle_bus::{
    cloudevent::{self, CloudEvent},
    consumer::{self, Consumer, Outcome},
    streams::EVENTS,
};
use rekindle_domain::{ModelName, Policy, Trigger, WorkflowId, WorkflowState, event::EventKind};
use rekindle_proto::events::{DegradationDetected, DriftDetected, FeatureCause};
use rekindle_store::{in_transaction, inbox};
use sea_orm::DatabaseTransaction;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    Error,
    clients::time,
    core::{Core, now},
    error::chain,
    store::{deployments, policies, workflows},
    workflow::{self, Cause, Workflow},
};

const CONSUMER: &str = "orchestrator-triggers";

/// An alert, read.
#[derive(Debug, Clone, PartialEq)]
struct Alert {
    model: ModelName,
    model_version: u32,
    cause: Cause,
}

/// Why an alert starts nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ignored {
    /// It was heard before, or its window has a workflow that is under way or has succeeded.
    Repeated,
    /// The model has no policy.
    NoPolicy,
    /// The policy does not want this trigger.
    SwitchedOff,
    /// It is about a version that is not the stable one any more.
    OtherVersion,
    /// A workflow of the model has not ended.
    Active,
    /// The last trip round the loop is too recent, in event time.
    CoolingDown,
}

impl Ignored {
    const fn name(self) -> &'static str {
        match self {
            Self::Repeated => "repeated",
            Self::NoPolicy => "no_policy",
            Self::SwitchedOff => "switched_off",
            Self::OtherVersion => "other_version",
            Self::Active => "active",
            Self::CoolingDown => "cooling_down",
        }
    }
}

/// What is known of the model when an alert comes.
#[derive(Debug, Clone, Copy, Default)]
struct Situation<'a> {
    policy: Option<&'a Policy>,
    /// The version that is deployed.
    stable: Option<u32>,
    active: bool,
    /// End of the window, in event time, that led to the last training.
    last_window: Option<DateTime<Utc>>,
}

/// Decides whether an alert starts a workflow.
fn decide<'a>(alert: &Alert, situation: &Situation<'a>) -> Result<&'a Policy, Ignored> {
    let policy = situation.policy.ok_or(Ignored::NoPolicy)?;
    let wanted = match alert.cause.trigger {
        Trigger::Drift => policy.on_drift,
        Trigger::Degradation => policy.on_degradation,
        Trigger::Manual => true,
    };
    if !wanted {
        return Err(Ignored::SwitchedOff);
    }
    if situation.active {
        return Err(Ignored::Active);
    }
    if situation.stable != Some(alert.model_version) {
        return Err(Ignored::OtherVersion);
    }
    let cooldown = TimeDelta::from_std(policy.cooldown).unwrap_or(TimeDelta::MAX);
    let since = alert.cause.window_until.zip(situation.last_window).map(|(until, last)| until - last);
    if since.is_some_and(|since| since < cooldown) {
        return Err(Ignored::CoolingDown);
    }
    Ok(policy)
}

/// Who listens to alerts. An alert is told once, so it waits out whatever passes, however long that takes.
fn listener() -> Consumer {
    let subjects = [EventKind::DRIFT_DETECTED, EventKind::DEGRADATION_DETECTED].map(|kind| kind.subject("*"));
    Consumer { max_deliveries: u64::MAX, ..Consumer::new(CONSUMER, EVENTS, subjects) }
}

/// Listens to alerts until `shutdown`.
pub(crate) async fn run(core: Arc<Core>, shutdown: CancellationToken) -> Result<(), Error> {
    let spec = listener();
    let bus = core.bus.clone();
    let handle = async move |message: rekindle_bus::Message| {
        let event = match cloudevent::from_message(&message) {
            Ok(event) => event,
            Err(error) => return Outcome::Dead(chain(&error)),
        };
        match hear(&core, &event, Uuid::now_v7(), now()).await {
            Ok(()) => Outcome::Ack,
            Err(error) => unheard(&error),
        }
    };
    Ok(consumer::run(bus, spec, handle, shutdown).await?)
}

/// Only an alert that can never be heard is set aside.
fn unheard(error: &Error) -> Outcome {
    let reason = chain(error);
    if error.is_passing() { Outcome::Retry(reason) } else { Outcome::Dead(reason) }
}

/// `fresh` becomes the id of the workflow where the alert's own is taken.
async fn hear(core: &Core, event: &CloudEvent, fresh: Uuid, now: DateTime<Utc>) -> Result<(), Error> {
    let alert = read(event)?;
    let (identity, told) = (event.identity(), alert.clone());
    let heard = in_transaction(&core.db, async move |txn| consider(txn, &identity, &told, fresh, now).await).await?;
    let (model, trigger) = (&alert.model, alert.cause.trigger.name());
    match heard {
        Ok(workflow) => {
            tracing::info!(%model, trigger, workflow = %workflow.id, cause = workflow.cause, "workflow queued");
            core.wake();
        }
        Err(ignored) => {
            let reason = ignored.name();
            tracing::info!(%model, trigger, reason, cause = alert.cause.words, "trigger ignored");
            metrics::counter!("rekindle_triggers_ignored_total", "reason" => reason).increment(1);
        }
    }
    Ok(())
}

async fn consider(
    txn: &DatabaseTransaction,
    identity: &str,
    alert: &Alert,
    fresh: Uuid,
    now: DateTime<Utc>,
) -> Result<Result<Workflow, Ignored>, Error> {
    let first_time = inbox::first_time(txn, CONSUMER, identity, now).await?;
    // Drift and degradation of one window share their correlation id, and so make one workflow, unless that came to nothing: upon
    // drift the truth may not be known yet, and too few labelled rows reject what has enough of them upon degradation.
    let first = workflows::get(txn, alert.cause.id).await?;
    if !first_time || first.as_ref().is_some_and(|first| stands(first.state)) {
        return Ok(Err(Ignored::Repeated));
    }
    let policy = policies::get(txn, &alert.model).await?;
    let situation = Situation {
        policy: policy.as_ref().map(|revised| &revised.policy),
        stable: deployments::get(txn, &alert.model).await?.map(|record| record.deployment.stable.version),
        active: workflows::active_of(txn, &alert.model).await?.is_some(),
        last_window: workflows::last_window(txn, &alert.model).await?,
    };
    match decide(alert, &situation) {
        Err(ignored) => Ok(Err(ignored)),
        Ok(policy) => {
            let cause = match first {
                None => alert.cause.clone(),
                Some(first) => Cause { id: WorkflowId::new(fresh), first: Some(first.id), ..alert.cause.clone() },
            };
            let workflow = Workflow::queued(cause, policy.clone(), now);
            workflow::add(txn, &workflow).await?;
            Ok(Ok(workflow))
        }
    }
}

/// Whether a workflow answers every alert of its window: it may still succeed, or has.
const fn stands(state: WorkflowState) -> bool {
    !state.is_terminal() || matches!(state, WorkflowState::Succeeded)
}

fn read(event: &CloudEvent) -> Result<Alert, Error> {
    const READ: &str = "read an alert";
    let (trigger, model, model_version, until, closed_at, features) = match event.kind {
        EventKind::DRIFT_DETECTED => {
            let alert: DriftDetected = event.decode()?;
            (Trigger::Drift, alert.model, alert.model_version, alert.until, alert.closed_at, alert.features)
        }
        _ => {
            let alert: DegradationDetected = event.decode()?;
            (Trigger::Degradation, alert.model, alert.model_version, alert.until, alert.closed_at, alert.features)
        }
    };
    let id: WorkflowId = event.context.correlation_id.parse().map_err(|error| Error::answer(READ, error))?;
    let until = time(READ, "until", until)?;
    let cause = Cause {
        id,
        first: None,
        trigger,
        words: words(trigger, until, &features),
        causation_id: event.id.to_string(),
        window_until: Some(until),
        window_closed_at: Some(time(READ, "closed_at", closed_at)?),
    };
    Ok(Alert { model: model.parse().map_err(|error| Error::answer(READ, error))?, model_version, cause })
}

/// E.g. `drift in the window until 2013-06-03T00:00:00Z: dep_delay 61%, carrier 20%`.
fn words(trigger: Trigger, until: DateTime<Utc>, features: &[FeatureCause]) -> String {
    const NAMED: usize = 5;
    let named: Vec<String> = features
        .iter()
        .take(NAMED)
        .map(|feature| format!("{} {:.0}%", feature.name, 100.0 * feature.cause_share))
        .collect();
    let until = until.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true);
    let what = trigger.name().to_lowercase();
    let list = if named.is_empty() { String::new() } else { format!(": {}", named.join(", ")) };
    format!("{what} in the window until {until}{list}")
}

#[cfg(test)]
mod tests;
