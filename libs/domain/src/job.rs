//! Jobs: training a model, or evaluating a challenger against the champion.

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    DatasetName, Digest, ExperimentName, Gate, ModelName, Namespace, Qualified as _, Recipe, RunId, Search, name,
    validation::{Checks, Violations},
};

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
    /// Which jobs it waits for.
    pub priority: Priority,
    /// The dataset it reads.
    pub dataset: DatasetRef,
    /// What to do.
    pub work: Work,
}

/// Which jobs a job waits for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Priority {
    /// Those that were submitted before.
    #[default]
    Normal,
    /// Only those of high priority that were submitted before: trainers keep workers for them. Jobs of workflows have it.
    High,
}

/// A dataset version by name and number.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DatasetRef {
    /// The dataset.
    pub name: DatasetName,
    /// `None`: the latest version when the job is submitted.
    pub version: Option<u32>,
}

/// The work of a job.
#[expect(clippy::large_enum_variant, reason = "most jobs are trainings")]
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
    /// Time since the run has started after which it fails, whatever workers had it.
    pub time_limit: Option<Duration>,
    /// The workers outside of the platform that do it; `None` for a trainer of the platform.
    pub external: Option<Box<External>>,
}

/// Workers outside of the platform, in any language, which claim the trainings of a pool and complete them with a file in the ONNX format. Of
/// the recipe, they need the target and what is not a feature; kind of model and hyperparameters are theirs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct External {
    /// The pool.
    pub pool: String,
    /// Passed to the workers.
    #[serde(default)]
    pub parameters: BTreeMap<String, String>,
}

impl External {
    /// The pool of the trainers of the platform.
    pub const INTERNAL_POOL: &str = "cpu";
    /// Their pool of jobs of high priority.
    pub const HIGH_PRIORITY_POOL: &str = "cpu-high";
    /// Parameters, at most.
    pub const MAX_PARAMETERS: usize = 100;
    /// Bytes of the names and values of all parameters, at most.
    pub const MAX_BYTES: usize = 64 << 10;

    /// Checks every bound.
    pub fn validate(&self) -> Result<(), Violations> {
        let mut checks = Checks::new();
        checks.parsed("pool", check_pool(&self.pool));
        let (count, most) = (self.parameters.len(), Self::MAX_PARAMETERS);
        checks.require(count <= most, "parameters", format!("{count} entries"), &format!("at most {most}"));
        let bytes: usize = self.parameters.iter().map(|(name, value)| name.len() + value.len()).sum();
        let expected = format!("at most {}", Self::MAX_BYTES);
        checks.require(bytes <= Self::MAX_BYTES, "parameters", format!("{bytes} bytes"), &expected);
        checks.require(!self.parameters.contains_key(""), "parameters", "an empty name", "names");
        checks.finish()
    }
}

/// Checks the name of a pool of workers outside of the platform, which is a token of a subject on the bus.
pub fn check_pool(pool: &str) -> Result<(), String> {
    name::check("pool", pool).map_err(|error| error.to_string())?;
    match pool {
        External::INTERNAL_POOL | External::HIGH_PRIORITY_POOL => {
            Err(format!("is {pool:?}, a pool of the trainers of the platform: expected another name"))
        }
        _ => Ok(()),
    }
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
    /// The challenger agrees with the champion and is not shown to be worse, or it differs and is shown to be better: for a refit, which was
    /// trained on the rows of the evaluation. No row is excluded because a model was trained on it.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_is_a_name_of_its_own() {
        let external = |pool: &str| External { pool: pool.to_owned(), parameters: BTreeMap::new() };
        assert_eq!(external("python").validate(), Ok(()));
        for pool in ["", "cpu", "cpu-high", "a.b", "A", "*", ">"] {
            assert!(external(pool).validate().is_err(), "{pool:?}");
        }
        let parameters = BTreeMap::from([("x".to_owned(), "y".repeat(External::MAX_BYTES))]);
        let refused = External { parameters, ..external("python") }.validate().expect_err("too much");
        assert!(refused.to_string().starts_with("parameters: is 65537 bytes"), "{refused}");
    }
}
