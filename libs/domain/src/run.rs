//! Runs: one training or evaluation each, with its lifecycle.

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{Digest, ExperimentName, RunId};

/// ```text
/// SCHEDULED --start--> RUNNING --finish--> FINISHED
///     |  \                | | \--fail----> FAILED
///     |   \--kill--> KILLED<  \--lose----> LOST --start--> RUNNING   (its job was redelivered)
///     \------lose-----> LOST
/// ```
/// The trainer owns start, finish and fail; a caller owns kill; the registry owns lose, when the lease expires. Whoever owns a lost run may
/// still finish, fail or kill it.
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
    /// Its lease expired.
    Lost,
}

/// One training or evaluation.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Its id.
    pub id: RunId,
    /// The run that it is a part of.
    pub parent_id: Option<RunId>,
    /// The experiment it belongs to.
    pub experiment: ExperimentName,
    /// Where it is in its lifecycle.
    pub status: RunStatus,
    /// Parameters, by name.
    pub params: BTreeMap<String, String>,
    /// Tags, by name.
    pub tags: BTreeMap<String, String>,
    /// The revision of the code that ran.
    pub code_revision: String,
    /// Content digests of the dataset versions used.
    pub dataset_digests: Vec<Digest>,
    /// The seed.
    pub seed: u64,
    /// The last point of each metric.
    pub metrics: Vec<Metric>,
    /// Outputs by name: `bundle`, `model_version`, `evaluation`, `verdict`.
    pub outputs: BTreeMap<String, String>,
    /// Reason of the failure; empty if there was none.
    pub error: String,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When a worker first started it.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// How far it is, as its worker has reported last; `None` once it has finished.
    pub progress: Option<RunProgress>,
    /// When it was deleted. Lists leave it out, and it can be restored.
    pub deleted_at: Option<DateTime<Utc>>,
    /// Increases with every change.
    pub revision: u64,
}

impl Run {
    /// The output with the digest of the bundle of a training.
    pub const BUNDLE: &str = "bundle";
    /// The output with the number of the version that a training registered.
    pub const MODEL_VERSION: &str = "model_version";
    /// The tag with the digest of the latest checkpoint, from which another worker continues. The end of a run removes it.
    pub const CHECKPOINT: &str = "rekindle.checkpoint";
}

/// How far a run is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunProgress {
    /// The part of the work, e.g. `trial 3 of at most 50`; empty if there is only one.
    pub stage: String,
    /// Steps of the stage that are done.
    pub completed: u64,
    /// Steps of the stage at most.
    pub total: u64,
    /// What a step is, in the plural, e.g. `epochs`.
    pub unit: String,
    /// Time until the end of the stage at most, at the speed so far.
    pub remaining: Option<Duration>,
}

/// One point of a metric.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    /// The metric, e.g. `validation.log_loss`.
    pub name: String,
    /// Finite.
    pub value: f64,
    /// Epoch or iteration.
    pub step: i64,
    /// When it was measured; `None` takes the time of the call.
    pub time: Option<DateTime<Utc>>,
}

/// Which values of a metric are better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// E.g. of a loss.
    Lower,
    /// E.g. of an accuracy.
    Higher,
}

impl Better {
    /// Of a metric by its name, whose words are those of well-known metrics: `validation.log_loss`, `test_auc`. `None` if none is known, or
    /// both.
    pub fn of(metric: &str) -> Option<Self> {
        const LOWER: [&str; 13] = [
            "loss",
            "mae",
            "mse",
            "rmse",
            "rmsle",
            "mape",
            "smape",
            "brier",
            "error",
            "logloss",
            "deviance",
            "perplexity",
            "ece",
        ];
        const HIGHER: [&str; 13] = [
            "auc",
            "accuracy",
            "acc",
            "precision",
            "recall",
            "f1",
            "r2",
            "score",
            "map",
            "ndcg",
            "auroc",
            "auprc",
            "mcc",
        ];
        let name = metric.to_ascii_lowercase();
        const OF_OTHERS: [&str; 5] = ["time", "rank", "std", "var", "count"];
        let words: Vec<&str> = name.split(|character: char| !character.is_ascii_alphanumeric()).collect();
        let has = |known: &[&str]| words.iter().any(|word| known.contains(word));
        if has(&OF_OTHERS) {
            return None;
        }
        match (has(&LOWER), has(&HIGHER)) {
            // As scikit-learn's scores have it.
            (true, false) if has(&["neg", "negative"]) => Some(Self::Higher),
            (true, false) => Some(Self::Lower),
            (false, true) => Some(Self::Higher),
            _ => None,
        }
    }
}

/// A run to be created.
#[derive(Debug, Clone, PartialEq)]
pub struct NewRun {
    /// `None` lets the registry generate one.
    pub id: Option<RunId>,
    /// An existing run that it is a part of.
    pub parent_id: Option<RunId>,
    /// The experiment it belongs to.
    pub experiment: ExperimentName,
    /// Parameters, by name.
    pub params: BTreeMap<String, String>,
    /// Tags, by name.
    pub tags: BTreeMap<String, String>,
    /// The revision of the code that runs.
    pub code_revision: String,
    /// Content digests of the dataset versions used.
    pub dataset_digests: Vec<Digest>,
    /// The seed.
    pub seed: u64,
    /// Time without a report after which it is lost while it runs; `None`: as the registry is configured.
    pub lease: Option<Duration>,
}

impl NewRun {
    /// A run without params, tags and datasets.
    pub fn new(experiment: ExperimentName) -> Self {
        Self {
            id: None,
            parent_id: None,
            experiment,
            params: BTreeMap::new(),
            tags: BTreeMap::new(),
            code_revision: String::new(),
            dataset_digests: Vec::new(),
            seed: 0,
            lease: None,
        }
    }
}

/// What a worker or a caller reports about a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunReport {
    /// Started or in progress; renews the lease.
    Running,
    /// In progress, and how far; renews the lease.
    Progressed(RunProgress),
    /// Done.
    Finished {
        /// Outputs by name.
        outputs: BTreeMap<String, String>,
    },
    /// Ended by an error.
    Failed {
        /// The error.
        error: String,
    },
    /// Ended by a caller.
    Killed {
        /// Why.
        error: String,
    },
}

/// What can happen to a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RunEvent {
    /// A worker took the job, possibly again.
    Start,
    /// The work is done.
    Finish,
    /// The work failed.
    Fail,
    /// A caller ends it.
    Kill,
    /// The lease expired.
    Lose,
}

/// An event that a status does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("event {event:?} is not allowed in status {}", .from.name())]
pub struct RunTransitionRefused {
    /// The status it is in.
    pub from: RunStatus,
    /// The event that was refused.
    pub event: RunEvent,
}

impl RunStatus {
    /// The name in tables and output, e.g. `FINISHED`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scheduled => "SCHEDULED",
            Self::Running => "RUNNING",
            Self::Finished => "FINISHED",
            Self::Failed => "FAILED",
            Self::Killed => "KILLED",
            Self::Lost => "LOST",
        }
    }

    /// Every status.
    pub const ALL: [Self; 6] = [Self::Scheduled, Self::Running, Self::Finished, Self::Failed, Self::Killed, Self::Lost];

    /// The status after `event`. Repeating the event that led to a status changes nothing, so that a
    /// worker may report twice.
    pub fn after(self, event: RunEvent) -> Result<Self, RunTransitionRefused> {
        use RunEvent::{Fail, Finish, Kill, Lose, Start};
        use RunStatus::{Failed, Finished, Killed, Lost, Running, Scheduled};
        match (self, event) {
            (Scheduled | Running | Lost, Start) => Ok(Running),
            (Running | Lost | Finished, Finish) => Ok(Finished),
            (Scheduled | Running | Lost | Failed, Fail) => Ok(Failed),
            (Scheduled | Running | Lost | Killed, Kill) => Ok(Killed),
            (Scheduled | Running | Lost, Lose) => Ok(Lost),
            (Finished | Failed | Killed, Start | Lose)
            | (Scheduled | Failed | Killed, Finish)
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
        let expected = ["R.FKL", "RDFKL", ".D...", "..F..", "...K.", "RDFKL"];
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
    fn better_values_are_known_by_the_words_of_the_name() {
        for (name, better) in [
            ("log_loss", Some(Better::Lower)),
            ("validation.rmse", Some(Better::Lower)),
            ("test-AUC", Some(Better::Higher)),
            ("training_accuracy_score", Some(Better::Higher)),
            ("brier_score", None),
            ("neg_mean_squared_error", Some(Better::Higher)),
            ("mean_score_time", None),
            ("rank_test_score", None),
            ("epoch", None),
            ("glossary", None),
        ] {
            assert_eq!(Better::of(name), better, "{name}");
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
