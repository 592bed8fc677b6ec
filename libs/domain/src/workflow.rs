//! Retraining workflows and their lifecycle: from an alert or a call to a new champion.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{Digest, ModelName, RunId, WorkflowId};

/// ```text
/// QUEUED --start--> ASSEMBLING --assembled--> TRAINING --trained--> EVALUATING --pass, refit--> REFITTING
///                       |                                            |                          |   \
///                    decline                                      decline                  refitted  refitted, ask
///                       v                                            v                          v    v
///                    REJECTED                                     REJECTED            ROLLING_OUT <--approve-- AWAITING_APPROVAL --decline--> REJECTED
///
/// EVALUATING --pass--> ROLLING_OUT and EVALUATING --pass, ask--> AWAITING_APPROVAL without a refit
///
/// ROLLING_OUT --all moved--> OBSERVING --proven--> SUCCEEDED
///      \------returned---------/--> ROLLED_BACK
///
/// every state that is not terminal: --cancel--> CANCELLED, --fail--> FAILED
/// ```
/// The orchestrator owns every arrow; people own `approve`, their `decline` and `cancel`. While replicas
/// are being moved, `cancel` and `fail` apply only once every replica has returned to the stable version.
/// A pause is not a state: a paused workflow keeps its state, and only `cancel`, `fail` and `returned` apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum WorkflowState {
    /// Accepted, not started.
    Queued,
    /// The training data is being assembled.
    Assembling,
    /// A challenger is being trained.
    Training,
    /// The challenger is being compared with the champion.
    Evaluating,
    /// The challenger passed the gate and is trained again on all rows.
    Refitting,
    /// The challenger passed the gate; a person must approve it.
    AwaitingApproval,
    /// The challenger is being rolled out, one replica at a time.
    RollingOut,
    /// Every replica serves the challenger and is being observed.
    Observing,
    /// The challenger is the champion.
    Succeeded,
    /// Too little data, or rejected by the gate or a person. Serving is unchanged.
    Rejected,
    /// The challenger failed in serving. Every replica serves the champion again.
    RolledBack,
    /// An error that retries did not resolve, or the deadline.
    Failed,
    /// Cancelled by a caller.
    Cancelled,
}

/// What can happen to a workflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WorkflowEvent {
    /// It starts.
    Start,
    /// The dataset version exists.
    Assembled,
    /// The challenger is registered.
    Trained,
    /// The challenger passed the gate and the policy requires no approval.
    Pass,
    /// The challenger passed the gate and the policy requires approval.
    PassAndAsk,
    /// The challenger passed the gate and is to be trained on all rows.
    PassAndRefit,
    /// The refit is complete, or the evaluated challenger stays, and the policy requires no approval.
    Refitted,
    /// The refit is complete, or the evaluated challenger stays, and the policy requires approval.
    RefittedAndAsk,
    /// A person approved.
    Approve,
    /// Too little data, or rejected by the gate or a person.
    Decline,
    /// Every live replica serves the challenger.
    AllMoved,
    /// The challenger has become the stable version.
    Proven,
    /// Every replica has returned to the stable version after the challenger failed in serving.
    Returned,
    /// An unrecoverable error, or the deadline.
    Fail,
    /// A caller cancels it.
    Cancel,
}

impl WorkflowEvent {
    /// Every event.
    pub const ALL: [Self; 15] = [
        Self::Start,
        Self::Assembled,
        Self::Trained,
        Self::Pass,
        Self::PassAndAsk,
        Self::PassAndRefit,
        Self::Refitted,
        Self::RefittedAndAsk,
        Self::Approve,
        Self::Decline,
        Self::AllMoved,
        Self::Proven,
        Self::Returned,
        Self::Fail,
        Self::Cancel,
    ];
}

/// An event that a state does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("event {event:?} is not allowed in state {}", .from.name())]
pub struct WorkflowTransitionRefused {
    /// The state it is in.
    pub from: WorkflowState,
    /// The event that was refused.
    pub event: WorkflowEvent,
}

impl WorkflowState {
    /// Every state: those of a successful workflow in order, then the other terminal ones.
    pub const ALL: [Self; 13] = [
        Self::Queued,
        Self::Assembling,
        Self::Training,
        Self::Evaluating,
        Self::Refitting,
        Self::AwaitingApproval,
        Self::RollingOut,
        Self::Observing,
        Self::Succeeded,
        Self::Rejected,
        Self::RolledBack,
        Self::Failed,
        Self::Cancelled,
    ];

    /// The state after `event`. A late event never moves a workflow that has ended.
    pub fn after(self, event: WorkflowEvent) -> Result<Self, WorkflowTransitionRefused> {
        use WorkflowEvent as E;
        use WorkflowState as S;
        match (self, event) {
            (S::Queued, E::Start) => Ok(S::Assembling),
            (S::Assembling, E::Assembled) => Ok(S::Training),
            (S::Training, E::Trained) => Ok(S::Evaluating),
            (S::Evaluating, E::Pass) | (S::AwaitingApproval, E::Approve) => Ok(S::RollingOut),
            (S::Evaluating, E::PassAndRefit) => Ok(S::Refitting),
            (S::Refitting, E::Refitted) => Ok(S::RollingOut),
            (S::Evaluating, E::PassAndAsk) | (S::Refitting, E::RefittedAndAsk) => Ok(S::AwaitingApproval),
            (S::Assembling | S::Evaluating | S::AwaitingApproval, E::Decline) => Ok(S::Rejected),
            (S::RollingOut, E::AllMoved) => Ok(S::Observing),
            (S::Observing, E::Proven) => Ok(S::Succeeded),
            (S::RollingOut | S::Observing, E::Returned) => Ok(S::RolledBack),
            (state, E::Fail) if !state.is_terminal() => Ok(S::Failed),
            (state, E::Cancel) if !state.is_terminal() => Ok(S::Cancelled),
            (from, event) => Err(WorkflowTransitionRefused { from, event }),
        }
    }

    /// Whether nothing can follow.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Rejected | Self::RolledBack | Self::Failed | Self::Cancelled)
    }

    /// Whether replicas may be serving the challenger, so that the workflow can end only after their return.
    pub const fn is_serving_challenger(self) -> bool {
        matches!(self, Self::RollingOut | Self::Observing)
    }

    /// The name in events and tables, e.g. `ROLLING_OUT`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Queued => "QUEUED",
            Self::Assembling => "ASSEMBLING",
            Self::Training => "TRAINING",
            Self::Evaluating => "EVALUATING",
            Self::Refitting => "REFITTING",
            Self::AwaitingApproval => "AWAITING_APPROVAL",
            Self::RollingOut => "ROLLING_OUT",
            Self::Observing => "OBSERVING",
            Self::Succeeded => "SUCCEEDED",
            Self::Rejected => "REJECTED",
            Self::RolledBack => "ROLLED_BACK",
            Self::Failed => "FAILED",
            Self::Cancelled => "CANCELLED",
        }
    }

    /// The state of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

/// A workflow as its callers see it.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkflowStatus {
    /// Its id, also the correlation id of its events.
    pub id: WorkflowId,
    /// The model.
    pub model: ModelName,
    /// What started it.
    pub trigger: Trigger,
    /// Explanation of the trigger.
    pub cause: String,
    /// The state.
    pub state: WorkflowState,
    /// Whether it is paused.
    pub paused: bool,
    /// Reason of the latest transition.
    pub reason: String,
    /// The champion when it started; `None` before it started.
    pub from_version: Option<u32>,
    /// The challenger; `None` until trained.
    pub to_version: Option<u32>,
    /// The assembled dataset version, as `name/version`; empty until assembled.
    pub dataset_version: String,
    /// The run of the training; `None` until submitted.
    pub train_run: Option<RunId>,
    /// The run of the evaluation; `None` until submitted.
    pub evaluate_run: Option<RunId>,
    /// The run of the refit; `None` until submitted.
    pub refit_run: Option<RunId>,
    /// The states it has entered, in order.
    pub steps: Vec<WorkflowStep>,
    /// When the window that triggered it closed.
    pub window_closed_at: Option<DateTime<Utc>>,
    /// When it was accepted.
    pub queued_at: DateTime<Utc>,
    /// When every replica served the challenger.
    pub serving_everywhere_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// Increases with every transition.
    pub epoch: u64,
    /// The digest of the evaluation; `None` until evaluated.
    pub evaluation: Option<Digest>,
}

/// A state that a workflow has entered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkflowStep {
    /// The state.
    pub state: WorkflowState,
    /// When.
    pub entered_at: DateTime<Utc>,
    /// Why.
    pub reason: String,
}

/// The decision of a person on a challenger that passed the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Decision {
    /// Roll it out.
    Approve,
    /// Reject it.
    Decline,
}

/// What starts a workflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Trigger {
    /// Drift of inputs or predictions.
    Drift,
    /// Degradation of model quality.
    Degradation,
    /// A call.
    Manual,
    /// The schedule of the policy.
    Schedule,
    /// A new version of the dataset of the policy, which no workflow registered.
    DatasetVersion,
    /// A window whose outcomes have arrived, whatever was found in it.
    Window,
}

impl Trigger {
    /// Every trigger.
    pub const ALL: [Self; 6] =
        [Self::Drift, Self::Degradation, Self::Manual, Self::Schedule, Self::DatasetVersion, Self::Window];

    /// The name in events and tables, e.g. `DRIFT`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Drift => "DRIFT",
            Self::Degradation => "DEGRADATION",
            Self::Manual => "MANUAL",
            Self::Schedule => "SCHEDULE",
            Self::DatasetVersion => "DATASET_VERSION",
            Self::Window => "WINDOW",
        }
    }

    /// The trigger of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|trigger| trigger.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(state: WorkflowState) -> char {
        match state {
            WorkflowState::Queued => 'q',
            WorkflowState::Assembling => 'a',
            WorkflowState::Training => 't',
            WorkflowState::Evaluating => 'e',
            WorkflowState::Refitting => 'f',
            WorkflowState::AwaitingApproval => 'w',
            WorkflowState::RollingOut => 'r',
            WorkflowState::Observing => 'o',
            WorkflowState::Succeeded => 'S',
            WorkflowState::Rejected => 'R',
            WorkflowState::RolledBack => 'B',
            WorkflowState::Failed => 'F',
            WorkflowState::Cancelled => 'C',
        }
    }

    #[test]
    fn every_state_and_event() {
        // Rows: ALL in order; columns: WorkflowEvent::ALL in order; '.' is refused.
        let expected = [
            "a............FC",
            ".t.......R...FC",
            "..e..........FC",
            "...rwf...R...FC",
            "......rw.....FC",
            "........rR...FC",
            "..........o.BFC",
            "...........SBFC",
            "...............",
            "...............",
            "...............",
            "...............",
            "...............",
        ];
        for (state, row) in WorkflowState::ALL.into_iter().zip(expected) {
            let got: String = WorkflowEvent::ALL.iter().map(|&event| state.after(event).map_or('.', letter)).collect();
            assert_eq!(got, row, "{state:?}");
        }
    }

    #[test]
    fn terminal_means_that_every_event_is_refused() {
        for state in WorkflowState::ALL {
            assert_eq!(
                state.is_terminal(),
                WorkflowEvent::ALL.iter().all(|&event| state.after(event).is_err()),
                "{state:?}"
            );
        }
    }

    #[test]
    fn names_are_those_of_the_json_form_and_resolve() {
        for state in WorkflowState::ALL {
            assert_eq!(serde_json::to_value(state).expect("json"), state.name());
            assert_eq!(WorkflowState::from_name(state.name()), Some(state));
        }
        for trigger in Trigger::ALL {
            assert_eq!(serde_json::to_value(trigger).expect("json"), trigger.name());
            assert_eq!(Trigger::from_name(trigger.name()), Some(trigger));
        }
        assert_eq!(WorkflowState::from_name("queued"), None);
    }
}
