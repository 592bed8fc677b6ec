//! The lifecycle of a run.

use serde::{Deserialize, Serialize};

/// ```text
/// SCHEDULED --start--> RUNNING --finish--> FINISHED
///     |  \                | | \--fail----> FAILED
///     |   \--kill--> KILLED<  \--lose----> LOST --start--> RUNNING   (its job was delivered again)
///     \------lose-----> LOST
/// ```
/// The trainer owns start, finish and fail; a caller owns kill; the registry, seeing a lease run out,
/// owns lose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RunStatus {
    /// Created, not yet taken by a worker.
    Scheduled,
    /// A worker holds its lease.
    Running,
    /// Done, with its outputs.
    Finished,
    /// Ended by an error, which is recorded.
    Failed,
    /// Ended by a caller.
    Killed,
    /// Its worker fell silent.
    Lost,
}

/// What can happen to a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RunEvent {
    /// A worker took the job, possibly again.
    Start,
    /// The work is done.
    Finish,
    /// The work cannot be done.
    Fail,
    /// A caller wants it ended.
    Kill,
    /// The lease ran out.
    Lose,
}

/// An event that a status does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a run that is {from:?} cannot {event:?}")]
pub struct RunTransitionRefused {
    /// The status it is in.
    pub from: RunStatus,
    /// The event that was refused.
    pub event: RunEvent,
}

impl RunStatus {
    /// Every status.
    pub const ALL: [Self; 6] = [Self::Scheduled, Self::Running, Self::Finished, Self::Failed, Self::Killed, Self::Lost];

    /// The status after `event`. Repeating the event that led to a status changes nothing, so that a
    /// worker may report twice.
    pub fn after(self, event: RunEvent) -> Result<Self, RunTransitionRefused> {
        use RunEvent::{Fail, Finish, Kill, Lose, Start};
        use RunStatus::{Failed, Finished, Killed, Lost, Running, Scheduled};
        match (self, event) {
            (Scheduled | Running | Lost, Start) => Ok(Running),
            (Running | Finished, Finish) => Ok(Finished),
            (Scheduled | Running | Lost | Failed, Fail) => Ok(Failed),
            (Scheduled | Running | Lost | Killed, Kill) => Ok(Killed),
            (Scheduled | Running | Lost, Lose) => Ok(Lost),
            (Finished | Failed | Killed, Start | Lose)
            | (Scheduled | Failed | Killed | Lost, Finish)
            | (Finished | Killed, Fail)
            | (Finished | Failed, Kill) => Err(RunTransitionRefused { from: self, event }),
        }
    }

    /// Whether nothing can follow.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Finished | Self::Failed | Self::Killed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENTS: [RunEvent; 5] = [RunEvent::Start, RunEvent::Finish, RunEvent::Fail, RunEvent::Kill, RunEvent::Lose];

    #[test]
    fn every_status_and_event() {
        // Rows: ALL in order; columns: start, finish, fail, kill, lose; '.' is refused.
        let expected = ["R.FKL", "RDFKL", ".D...", "..F..", "...K.", "R.FKL"];
        let letter = |status: RunStatus| match status {
            RunStatus::Scheduled => 'S',
            RunStatus::Running => 'R',
            RunStatus::Finished => 'D',
            RunStatus::Failed => 'F',
            RunStatus::Killed => 'K',
            RunStatus::Lost => 'L',
        };
        for (status, row) in RunStatus::ALL.into_iter().zip(expected) {
            let got: String = EVENTS.iter().map(|&event| status.after(event).map_or('.', letter)).collect();
            assert_eq!(got, row, "{status:?}");
        }
    }

    #[test]
    fn terminal_means_that_no_event_leads_elsewhere() {
        for status in RunStatus::ALL {
            let stays = EVENTS
                .iter()
                .all(|&event| status.after(event).is_ok_and(|next| next == status) || status.after(event).is_err());
            assert_eq!(status.is_terminal(), stays, "{status:?}");
        }
    }
}
