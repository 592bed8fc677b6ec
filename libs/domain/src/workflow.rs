//! The lifecycle of a workflow: one trip round the loop, from an alert to a model that serves.

use serde::{Deserialize, Serialize};

/// ```text
/// QUEUED --start--> ASSEMBLING --assembled--> TRAINING --trained--> EVALUATING --pass------------------> ROLLING_OUT
///                       |                                            |  \--pass, ask--> AWAITING_APPROVAL --approve-^
///                    decline                                      decline                 decline
///                       v                                            v                       v
///                    REJECTED                                     REJECTED                REJECTED
///
/// ROLLING_OUT --all moved--> OBSERVING --proven--> SUCCEEDED
///      \------returned---------/--> ROLLED_BACK
///
/// every state that is not terminal: --cancel--> CANCELLED, --fail--> FAILED
/// ```
/// The orchestrator owns every arrow; people own `approve`, their `decline` and `cancel`. While replicas
/// are being moved, `cancel` and `fail` are taken only once every replica is back on the stable version.
/// Pausing is no state: a paused workflow keeps its state and takes no arrow but `cancel`, `fail` and `returned`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum WorkflowState {
    /// Accepted, not yet begun.
    Queued,
    /// Its training data is being put together.
    Assembling,
    /// A challenger is being trained.
    Training,
    /// The challenger is being compared with the champion.
    Evaluating,
    /// The gate said yes; a person has to as well.
    AwaitingApproval,
    /// Replicas are taking over the challenger, one after the other.
    RollingOut,
    /// Every replica serves the challenger and is being watched.
    Observing,
    /// The challenger is the champion.
    Succeeded,
    /// Too little data, or the gate or a person said no; nothing changed for those who ask for predictions.
    Rejected,
    /// The challenger did not hold up in serving; every replica is back on the champion.
    RolledBack,
    /// It could not go on.
    Failed,
    /// A caller ended it.
    Cancelled,
}

/// What can happen to a workflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WorkflowEvent {
    /// Its turn has come.
    Start,
    /// The dataset version exists.
    Assembled,
    /// The challenger is registered.
    Trained,
    /// The gate said yes and the policy asks nobody else.
    Pass,
    /// The gate said yes and the policy wants a person to agree.
    PassAndAsk,
    /// A person agreed.
    Approve,
    /// Too little data, or the gate or a person said no.
    Decline,
    /// Every live replica serves the challenger.
    AllMoved,
    /// The challenger has become the stable version.
    Proven,
    /// Every replica is back on the stable version after the challenger failed in serving.
    Returned,
    /// It cannot go on.
    Fail,
    /// A caller wants it ended.
    Cancel,
}

/// An event that a state does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a workflow that is {from:?} cannot take {event:?}")]
pub struct WorkflowTransitionRefused {
    /// The state it is in.
    pub from: WorkflowState,
    /// The event that was refused.
    pub event: WorkflowEvent,
}

impl WorkflowState {
    /// Every state, in the order of a trip that goes well, then the other ends.
    pub const ALL: [Self; 12] = [
        Self::Queued,
        Self::Assembling,
        Self::Training,
        Self::Evaluating,
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
            (S::Evaluating, E::PassAndAsk) => Ok(S::AwaitingApproval),
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

    /// Whether replicas may be serving the challenger, so that an end has to wait for their return.
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

/// What made a workflow begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Trigger {
    /// Inputs or predictions moved away from the reference.
    Drift,
    /// Predictions became worse than the reference.
    Degradation,
    /// A caller.
    Manual,
}

impl Trigger {
    /// Every trigger.
    pub const ALL: [Self; 3] = [Self::Drift, Self::Degradation, Self::Manual];

    /// The name in events and tables, e.g. `DRIFT`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Drift => "DRIFT",
            Self::Degradation => "DEGRADATION",
            Self::Manual => "MANUAL",
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

    const EVENTS: [WorkflowEvent; 12] = [
        WorkflowEvent::Start,
        WorkflowEvent::Assembled,
        WorkflowEvent::Trained,
        WorkflowEvent::Pass,
        WorkflowEvent::PassAndAsk,
        WorkflowEvent::Approve,
        WorkflowEvent::Decline,
        WorkflowEvent::AllMoved,
        WorkflowEvent::Proven,
        WorkflowEvent::Returned,
        WorkflowEvent::Fail,
        WorkflowEvent::Cancel,
    ];

    fn letter(state: WorkflowState) -> char {
        match state {
            WorkflowState::Queued => 'q',
            WorkflowState::Assembling => 'a',
            WorkflowState::Training => 't',
            WorkflowState::Evaluating => 'e',
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
        // Rows: ALL in order; columns: EVENTS in order; '.' is refused.
        let expected = [
            "a.........FC",
            ".t....R...FC",
            "..e.......FC",
            "...rw.R...FC",
            ".....rR...FC",
            ".......o.BFC",
            "........SBFC",
            "............",
            "............",
            "............",
            "............",
            "............",
        ];
        for (state, row) in WorkflowState::ALL.into_iter().zip(expected) {
            let got: String = EVENTS.iter().map(|&event| state.after(event).map_or('.', letter)).collect();
            assert_eq!(got, row, "{state:?}");
        }
    }

    #[test]
    fn terminal_means_that_every_event_is_refused() {
        for state in WorkflowState::ALL {
            assert_eq!(state.is_terminal(), EVENTS.iter().all(|&event| state.after(event).is_err()), "{state:?}");
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
