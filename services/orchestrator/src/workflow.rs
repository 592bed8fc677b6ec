//! A workflow: its record, its changes, and the events that they cause.

pub(crate) mod assemble;
pub(crate) mod evaluate;
pub(crate) mod progress;
mod refit;
pub(crate) mod roll_out;
pub(crate) mod run_job;
pub(crate) mod steps;
pub(crate) mod train;

use chrono::{DateTime, Utc};
use rekindle_client::wire::event::{self, WorkflowTransition};
use rekindle_domain::{
    Digest, ModelName, Policy, Trigger, WorkflowEvent, WorkflowId, WorkflowState,
    event::EventContext,
    workflow::{WorkflowStatus, WorkflowStep},
};
use rekindle_store::{
    audit::{self, Change},
    outbox::NewEvent,
};
use sea_orm::ConnectionTrait;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub(crate) use self::progress::Progress;
use crate::{
    Error,
    clients::principal,
    store::{ignored, workflows},
};

/// One retraining. It carries the policy as of its start: a change of the policy applies to the next workflow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Workflow {
    pub id: WorkflowId,
    /// The first workflow of the same window, which did not succeed: events and calls carry its id. `None` in the first.
    #[serde(default)]
    pub first: Option<WorkflowId>,
    pub model: ModelName,
    pub trigger: Trigger,
    /// Explanation of the trigger: which window, which features, or the reason of the caller.
    pub cause: String,
    /// The id of the event that started it; empty if a caller did.
    pub causation_id: String,
    pub state: WorkflowState,
    pub paused: bool,
    pub reason: String,
    /// Increases with every change.
    pub epoch: u64,
    /// End of the window that started it, in event time.
    pub window_until: Option<DateTime<Utc>>,
    pub window_closed_at: Option<DateTime<Utc>>,
    /// The dataset version that started it, on which the challenger is trained. `None`: on the champion's, with what was logged since.
    #[serde(default)]
    pub base: Option<progress::DatasetRef>,
    pub queued_at: DateTime<Utc>,
    /// The end of the quiet hours in which it was queued.
    #[serde(default)]
    pub quiet_until: Option<DateTime<Utc>>,
    pub deadline_at: DateTime<Utc>,
    pub ended_at: Option<DateTime<Utc>>,
    /// The end that was decided; it takes effect once no replica serves the challenger.
    pub ending: Option<Ending>,
    pub progress: Progress,
    pub policy: Policy,
}

/// A decision to end a workflow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ending {
    pub kind: EndingKind,
    pub reason: String,
}

/// How a workflow ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum EndingKind {
    Cancel,
    Fail,
}

/// What starts a workflow.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Cause {
    pub id: WorkflowId,
    pub first: Option<WorkflowId>,
    pub trigger: Trigger,
    pub words: String,
    pub causation_id: String,
    pub window_until: Option<DateTime<Utc>>,
    pub window_closed_at: Option<DateTime<Utc>>,
    pub dataset: Option<progress::DatasetRef>,
}

impl Workflow {
    /// A workflow that was accepted. It waits for the end of quiet hours, and its deadline counts from there.
    pub(crate) fn queued(cause: Cause, policy: Policy, now: DateTime<Utc>) -> Self {
        // A caller does not wait.
        let quiet_hours = policy.quiet_hours.as_ref().filter(|_| cause.trigger != Trigger::Manual);
        let quiet_until = quiet_hours.and_then(|quiet| quiet.end(now));
        let reason = match quiet_until {
            None => cause.words.clone(),
            Some(end) => format!("{}; it waits for the end of the quiet hours at {end}", cause.words),
        };
        Self {
            id: cause.id,
            first: cause.first,
            model: policy.model.clone(),
            trigger: cause.trigger,
            reason,
            cause: cause.words,
            causation_id: cause.causation_id,
            state: WorkflowState::Queued,
            paused: false,
            epoch: 1,
            window_until: cause.window_until,
            window_closed_at: cause.window_closed_at,
            base: cause.dataset,
            queued_at: now,
            quiet_until,
            deadline_at: quiet_until.unwrap_or(now) + policy.deadline,
            ended_at: None,
            ending: None,
            progress: Progress::default(),
            policy,
        }
    }

    /// The workflow after an event. A refused event is a defect of this service, and an error.
    pub(crate) fn after(
        &self,
        event: WorkflowEvent,
        reason: impl Into<String>,
        now: DateTime<Utc>,
    ) -> Result<Self, Error> {
        let state = self.state.after(event).map_err(|refused| Error::unrecoverable(refused.to_string()))?;
        let ended_at = state.is_terminal().then_some(now);
        Ok(Self { state, reason: reason.into(), ended_at, ..self.clone() })
    }

    /// The id of one of its jobs, derived from the id of the workflow and the name of the job.
    pub(crate) fn job_id(&self, name: &str) -> Uuid {
        derived_id(&format!("{}/{name}", self.id))
    }

    /// The workflow as its callers see it, with the states that it has entered.
    pub(crate) fn status(&self, steps: Vec<WorkflowStep>) -> WorkflowStatus {
        let progress = &self.progress;
        let dataset = progress.dataset.as_ref().map(|dataset| format!("{}/{}", dataset.name, dataset.version));
        WorkflowStatus {
            id: self.id,
            model: self.model.clone(),
            trigger: self.trigger,
            cause: self.cause.clone(),
            state: self.state,
            paused: self.paused,
            reason: self.reason.clone(),
            from_version: progress.champion_version(),
            to_version: progress.challenger_version(),
            dataset_version: dataset.unwrap_or_default(),
            train_run: progress.training.run,
            evaluate_run: progress.evaluation.run,
            refit_run: progress.refit.training.run,
            steps,
            window_closed_at: self.window_closed_at,
            queued_at: self.queued_at,
            serving_everywhere_at: progress.serving_everywhere_at,
            ended_at: self.ended_at,
            epoch: self.epoch,
            evaluation: progress.verdict,
        }
    }

    /// What calls on its behalf carry.
    pub(crate) fn context(&self) -> EventContext {
        EventContext {
            correlation_id: self.first.unwrap_or(self.id).to_string(),
            causation_id: self.causation_id.clone(),
        }
    }
}

/// The same id for the same text: a UUID in version 8 (RFC 9562, section 5.8) from its SHA-256.
pub(crate) fn derived_id(text: &str) -> Uuid {
    let digest = Digest::of(text.as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest.as_bytes()[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

/// Adds a queued workflow, with its event. Triggers that were ignored before are forgotten.
pub(crate) async fn add(txn: &impl ConnectionTrait, workflow: &Workflow) -> Result<(), Error> {
    workflows::insert(txn, workflow).await?;
    ignored::forget(txn, &workflow.model).await?;
    audit::record(txn, advanced(None, workflow, workflow.queued_at)).await?;
    Ok(())
}

/// Writes `after` over `before`, within a transaction; a transition has its event. Returns it with its new epoch.
pub(crate) async fn change(
    txn: &impl ConnectionTrait,
    before: &Workflow,
    after: Workflow,
    now: DateTime<Utc>,
) -> Result<Workflow, Error> {
    let after = Workflow { epoch: before.epoch + 1, ..after };
    workflows::update(txn, before.epoch, &after).await?;
    if after.state != before.state {
        workflows::add_step(txn, &after, now).await?;
        audit::record(txn, advanced(Some(before.state), &after, now)).await?;
    }
    Ok(after)
}

fn advanced(from: Option<WorkflowState>, workflow: &Workflow, now: DateTime<Utc>) -> Change {
    let fact = event::workflow_advanced(&WorkflowTransition {
        workflow: workflow.id,
        model: &workflow.model,
        from,
        to: workflow.state,
        trigger: workflow.trigger,
        reason: &workflow.reason,
        from_version: workflow.progress.champion_version(),
        to_version: workflow.progress.challenger_version(),
        epoch: workflow.epoch,
    });
    let event = NewEvent {
        id: workflow.job_id(&format!("advanced/{}", workflow.epoch)),
        kind: fact.kind,
        name: fact.name,
        data: fact.data,
        context: workflow.context(),
        partition_key: workflow.model.to_string(),
        time: now,
    };
    Change { event, actor: principal().to_string(), before: from.map(|from| from.name().into()) }
}
