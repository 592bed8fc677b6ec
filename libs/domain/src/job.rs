//! Jobs: training a model, or evaluating a challenger against the champion.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::{DatasetName, Digest, ExperimentName, Gate, ModelName, Namespace, Qualified as _, Recipe, RunId};

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
