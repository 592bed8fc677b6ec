//! Jobs: training a model, or evaluating a challenger against the champion.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::{DatasetName, Digest, ExperimentName, Gate, ModelName, Namespace, Qualified as _, Recipe, RunId, Search};

/// One unit of work for a trainer.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// The id of the job, and of its run.
    pub id: RunId,
    /// The experiment of its run.
    pub experiment: ExperimentName,
    /// The correlation id of every event that it causes; empty if there is none.
    pub correlation_id: String,
    /// Tags of its run.
    pub tags: BTreeMap<String, String>,
    /// The dataset it reads.
    pub dataset: DatasetRef,
    /// What to do.
    pub work: Work,
}

/// A dataset version by name and number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatasetRef {
    /// The dataset.
    pub name: DatasetName,
    /// `None`: the latest version when the job is submitted.
    pub version: Option<u32>,
}

/// The work of a job.
#[derive(Debug, Clone, PartialEq)]
pub enum Work {
    /// Train a model.
    Train(Train),
    /// Evaluate a challenger.
    Evaluate(Evaluate),
}

/// A training.
#[derive(Debug, Clone, PartialEq)]
pub struct Train {
    /// How.
    pub recipe: Recipe,
    /// What is tried besides; the best recipe makes the model.
    pub search: Search,
    /// Rows at or after this event time are excluded.
    pub until: Option<DateTime<Utc>>,
    /// Registers the result as the next version of this model.
    pub register_as: Option<ModelName>,
    /// Description of the registered version.
    pub description: String,
}

/// An evaluation.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluate {
    /// The bundle of the champion.
    pub champion: Digest,
    /// The bundle of the challenger.
    pub challenger: Digest,
    /// Rows before this event time are excluded, besides those that either model was trained on.
    pub from: Option<DateTime<Utc>>,
    /// The condition for the challenger.
    pub gate: Gate,
    /// What must be shown.
    pub requirement: Requirement,
}

/// What an evaluation must show with the confidence of the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Requirement {
    /// The challenger is better than the champion, by more than the margin of the gate.
    #[default]
    Better,
    /// The challenger is not worse than the champion by more than [`Requirement::TOLERANCE`] of its loss: for a champion that is known to
    /// have degraded.
    NotWorse,
    /// The challenger agrees with the champion and is not shown to be worse: for a refit, which was trained on the rows of the evaluation.
    /// No row is excluded because a model was trained on it.
    Consistent,
}

impl Requirement {
    /// The share of the champion's mean loss by which a challenger may be worse and still counts as not worse.
    pub const TOLERANCE: f64 = 0.01;
    /// The mean absolute difference of the probabilities up to which a refit agrees; for numbers, in standard deviations of the champion's
    /// predictions.
    pub const MAX_DISAGREEMENT: f64 = 0.1;

    /// Every requirement.
    pub const ALL: [Self; 3] = [Self::Better, Self::NotWorse, Self::Consistent];

    /// The name in params, e.g. `not_worse`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::NotWorse => "not_worse",
            Self::Consistent => "consistent",
        }
    }
}

impl Job {
    /// The job with its unqualified names in `namespace`.
    #[must_use]
    pub fn or_within(mut self, namespace: &Namespace) -> Self {
        self.experiment = self.experiment.or_within(namespace);
        self.dataset.name = self.dataset.name.or_within(namespace);
        if let Work::Train(train) = &mut self.work {
            train.register_as = train.register_as.take().map(|model| model.or_within(namespace));
        }
        self
    }
}

impl Work {
    /// The name of the kind, as in the wire message: `train` or `evaluate`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Train(_) => "train",
            Self::Evaluate(_) => "evaluate",
        }
    }
}
