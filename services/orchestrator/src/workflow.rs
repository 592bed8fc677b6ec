//! A workflow: its record, how it is changed, and what the rest of the world is told of that.

pub(crate) mod assemble;
pub(crate) mod evaluate;
pub(crate) mod progress;
pub(crate) mod roll_out;
pub(crate) mod run_job;
pub(crate) mod steps;
pub(crate) mod train;

use chrono::{DateTime, Utc};
use rekindle_domain::{Digest, ModelName, Policy, Trigger, WorkflowEvent, WorkflowId, WorkflowState, event::EventKind};
use rekindle_proto::{client::Context, events::WorkflowAdvanced, json};
use rekindle_store::outbox::{self, NewEvent};
use sea_orm::ConnectionTrait;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub(crate) use self::progress::Progress;
use crate::{Error, store::workflows};

/// One trip round the loop. It carries the policy as it was when it began, so that a change of policy concerns the next one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Workflow {
    pub id: WorkflowId,
    /// The first workflow of the same window, which came to nothing: events and calls go on under its id. `None` in the first.
    #[serde(default)]
    pub first: Option<WorkflowId>,
    pub model: ModelName,
    pub trigger: Trigger,
    /// In words: which window, which features, or why somebody started it.
    pub cause: String,
    /// The id of the event that started it; empty where a caller did.
    pub causation_id: String,
    pub state: WorkflowState,
    pub paused: bool,
    pub reason: String,
    /// Grows with every change.
    pub epoch: u64,
    /// End of the window that started it, in event time.
    pub window_until: Option<DateTime<Utc>>,
    pub window_closed_at: Option<DateTime<Utc>>,
    pub queued_at: DateTime<Utc>,
    pub deadline_at: DateTime<Utc>,
    pub ended_at: Option<DateTime<Utc>>,
    /// An end that was decided on, and is carried out as soon as no replica serves the challenger.
    pub ending: Option<Ending>,
    pub progress: Progress,
    pub policy: Policy,
}

/// A decision to end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ending {
    pub kind: EndingKind,
    pub reason: String,
}

/// How a workflow is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum EndingKind {
    Cancel,
    Fail,
}

/// A state that a workflow entered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    pub state: WorkflowState,
    pub entered_at: DateTime<Utc>,
    pub reason: String,
}

/// What makes a workflow begin.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Cause {
    pub id: WorkflowId,
    pub first: Option<WorkflowId>,
    pub trigger: Trigger,
    pub words: String,
    pub causation_id: String,
    pub window_until: Option<DateTime<Utc>>,
    pub window_closed_at: Option<DateTime<Utc>>,
}

impl Workflow {
    /// A workflow that has just been accepted.
    pub(crate) fn queued(cause: Cause, policy: Policy, now: DateTime<Utc>) -> Self {
        Self {
            id: cause.id,
            first: cause.first,
            model: policy.model.clone(),
            trigger: cause.trigger,
            reason: cause.words.clone(),
            cause: cause.words,
            causation_id: cause.causation_id,
            state: WorkflowState::Queued,
            paused: false,
            epoch: 1,
            window_until: cause.window_until,
            window_closed_at: cause.window_closed_at,
            queued_at: now,
            deadline_at: now + policy.deadline,
            ended_at: None,
            ending: None,
            progress: Progress::default(),
            policy,
        }
    }

    /// The workflow after an event; a refused event is a mistake of this service, and ends in an error.
    pub(crate) fn after(
        &self,
        event: WorkflowEvent,
        reason: impl Into<String>,
        now: DateTime<Utc>,
    ) -> Result<Self, Error> {
        let state = self.state.after(event).map_err(|refused| Error::Hopeless(refused.to_string()))?;
        let ended_at = state.is_terminal().then_some(now);
        Ok(Self { state, reason: reason.into(), ended_at, ..self.clone() })
    }

    /// An id for one of its jobs, the same whenever it is asked for: a UUID in version 8 made of a hash of the
    /// workflow's id and the job's name.
    pub(crate) fn job_id(&self, name: &str) -> Uuid {
        derived_id(&format!("{}/{name}", self.id))
    }

    /// What calls on its behalf carry.
    pub(crate) fn context(&self) -> Context {
        Context { correlation_id: self.first.unwrap_or(self.id).to_string(), causation_id: self.causation_id.clone() }
    }
}

/// The same id for the same text: a UUID in version 8 (RFC 9562, section 5.8) from its SHA-256.
pub(crate) fn derived_id(text: &str) -> Uuid {
    let digest = Digest::of(text.as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest.as_bytes()[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

/// Adds a queued workflow, and tells of it.
pub(crate) async fn add(txn: &impl ConnectionTrait, workflow: &Workflow) -> Result<(), Error> {
    workflows::insert(txn, workflow).await?;
    outbox::enqueue(txn, advanced(None, workflow, workflow.queued_at)).await?;
    Ok(())
}

/// Writes `after` over `before`, within a transaction; a move to another state is told of. Returns it with its new epoch.
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
        outbox::enqueue(txn, advanced(Some(before.state), &after, now)).await?;
    }
    Ok(after)
}

fn advanced(from: Option<WorkflowState>, workflow: &Workflow, now: DateTime<Utc>) -> NewEvent {
    let data = WorkflowAdvanced {
        workflow_id: workflow.id.to_string(),
        model: workflow.model.to_string(),
        from_state: from.map_or("", WorkflowState::name).to_owned(),
        to_state: workflow.state.name().to_owned(),
        trigger: workflow.trigger.name().to_owned(),
        reason: workflow.reason.clone(),
        from_version: workflow.progress.version_before(),
        to_version: workflow.progress.to_version(),
        epoch: workflow.epoch,
    };
    NewEvent {
        id: workflow.job_id(&format!("advanced/{}", workflow.epoch)),
        kind: EventKind::WORKFLOW_ADVANCED,
        name: workflow.model.to_string(),
        data: json::to_value(&data),
        context: workflow.context(),
        partition_key: workflow.model.to_string(),
        time: now,
    }
}
