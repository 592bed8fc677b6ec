//! Triggers: alerts of the monitor start workflows, as the policy of the model says.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use rekindle_bus::{
    cloudevent::{self, CloudEvent},
    consumer::{self, Consumer, Disposition},
    streams::EVENTS,
    subject,
};
use rekindle_client::wire;
use rekindle_domain::{
    ModelName, Policy, Trigger, WorkflowId, WorkflowState,
    event::{self, EventKind, FeatureCause},
};
use rekindle_service::{Fault as _, chain};
use rekindle_store::{in_transaction, inbox};
use sea_orm::DatabaseTransaction;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    Error,
    core::{Core, now},
    store::{deployments, policies, workflows},
    workflow::{self, Cause, Workflow},
};

const CONSUMER: &str = "orchestrator-triggers";

/// An alert of the monitor.
#[derive(Debug, Clone, PartialEq)]
struct Alert {
    model: ModelName,
    model_version: u32,
    cause: Cause,
    /// A column of the window is probably faulty.
    has_data_fault: bool,
}

/// Why an alert starts nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ignored {
    /// It is a redelivery, or its window has a workflow that is active or has succeeded.
    Repeated,
    /// The model has no policy.
    NoPolicy,
    /// The policy was stored by a release with other bounds and is not valid.
    InvalidPolicy,
    /// The policy does not have this trigger.
    Disabled,
    /// It is about a version that is not the stable one.
    OtherVersion,
    /// A workflow of the model has not ended.
    Active,
    /// The last training is too recent, in event time.
    CoolingDown,
    /// A column of the window is probably faulty: a model that is trained on its rows learns the fault.
    DataFault,
}

impl Ignored {
    const fn name(self) -> &'static str {
        match self {
            Self::Repeated => "repeated",
            Self::NoPolicy => "no_policy",
            Self::InvalidPolicy => "invalid_policy",
            Self::Disabled => "disabled",
            Self::OtherVersion => "other_version",
            Self::Active => "active",
            Self::CoolingDown => "cooling_down",
            Self::DataFault => "data_fault",
        }
    }
}

/// The state of the model when an alert arrives.
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
    if policy.validate().is_err() {
        return Err(Ignored::InvalidPolicy);
    }
    if !policy.triggers.contains(&alert.cause.trigger) {
        return Err(Ignored::Disabled);
    }
    if alert.has_data_fault {
        return Err(Ignored::DataFault);
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

/// The consumer of alerts. An alert is published once, so it is redelivered until transient failures have passed.
fn listener() -> Consumer {
    let subjects = [EventKind::DRIFT_DETECTED, EventKind::DEGRADATION_DETECTED].map(subject::events_of);
    Consumer { max_deliveries: u64::MAX, ..Consumer::new(CONSUMER, EVENTS, subjects) }
}

/// Consumes alerts until `shutdown`.
pub(crate) async fn run(core: Arc<Core>, shutdown: CancellationToken) -> Result<(), Error> {
    let spec = listener();
    let bus = core.bus.clone();
    let handle = async move |message: rekindle_bus::Message| {
        let event = match cloudevent::from_message(&message) {
            Ok(event) => event,
            Err(error) => return Disposition::DeadLetter(chain(&error)),
        };
        match process(&core, &event, Uuid::now_v7(), now()).await {
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

/// `fresh` becomes the id of the workflow if that of the alert is in use.
async fn process(core: &Core, event: &CloudEvent, fresh: Uuid, now: DateTime<Utc>) -> Result<(), Error> {
    let alert = read(event)?;
    let (identity, given) = (event.identity(), alert.clone());
    let processed =
        in_transaction(&core.db, async move |txn| consider(txn, &identity, &given, fresh, now).await).await?;
    let (model, trigger) = (&alert.model, alert.cause.trigger.name());
    match processed {
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
    // Drift and degradation of one window share their correlation id, and start one workflow, unless that did not succeed: on drift the
    // outcomes may not have arrived yet, and a workflow with too few labelled rows is rejected that has enough of them on degradation.
    let first = workflows::get(txn, alert.cause.id).await?;
    if !first_time || first.as_ref().is_some_and(|first| settles(first.state)) {
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

/// Whether a workflow settles every alert of its window: it may still succeed, or has.
const fn settles(state: WorkflowState) -> bool {
    !state.is_terminal() || matches!(state, WorkflowState::Succeeded)
}

fn read(event: &CloudEvent) -> Result<Alert, Error> {
    let alert = wire::event::detection(event.kind, &event.data)?;
    let alert = alert.ok_or_else(|| Error::invalid("type", format!("is {}: expected an alert", event.kind)))?;
    let has_data_fault = alert.has_data_fault();
    let event::Detection { trigger, window, causes, .. } = alert;
    let id: WorkflowId =
        event.context.correlation_id.parse().map_err(|error| Error::invalid("correlationid", error))?;
    let cause = Cause {
        id,
        first: None,
        trigger,
        words: explanation(trigger, window.until, &causes),
        causation_id: event.id.to_string(),
        window_until: Some(window.until),
        window_closed_at: Some(window.closed_at),
    };
    Ok(Alert { model: window.model, model_version: window.version.version, cause, has_data_fault })
}

/// E.g. `drift in the window until 2013-06-03T00:00:00Z: dep_delay 61%, carrier 20%`. Columns without a share in the shift, which do not
/// matter to the model, are left out.
fn explanation(trigger: Trigger, until: DateTime<Utc>, features: &[FeatureCause]) -> String {
    const NAMED: usize = 5;
    let named: Vec<String> = features
        .iter()
        .filter(|feature| feature.cause_share > 0.0)
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
