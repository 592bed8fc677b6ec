//! Model versions: registered bundles, their lifecycle and their reviews.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{Alias, AliasName, DatasetName, Digest, ModelName, RunId, Task, VersionRef};

/// One version of a registered model.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelVersion {
    /// The model.
    pub model: ModelName,
    /// From 1.
    pub version: u32,
    /// Where it is in its lifecycle.
    pub status: VersionStatus,
    /// Reason of the status; empty if there is none.
    pub status_reason: String,
    /// The digest of the bundle manifest.
    pub bundle: Digest,
    /// The run named by the provenance of the bundle. It may belong to another registry.
    pub run: Option<RunId>,
    /// The description.
    pub description: String,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// The principal that registered it; empty if that is not known.
    pub author: String,
    /// The last review: whether it may be served.
    pub review: Review,
    /// Validation metrics, from the bundle.
    pub metrics: BTreeMap<String, f64>,
    /// The aliases that point at it.
    pub aliases: Vec<String>,
    /// When it was registered.
    pub created_at: DateTime<Utc>,
    /// When it was deleted.
    pub deleted_at: Option<DateTime<Utc>>,
    /// Increases with every change.
    pub revision: u64,
}

/// The approval of a version, with its author and reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Review {
    /// Whether it may be served.
    pub approval: Approval,
    /// The principal that reviewed it; empty before the first review.
    pub by: String,
    /// The reason given.
    pub why: String,
    /// When; `None` before the first review.
    pub at: Option<DateTime<Utc>>,
    /// What the decision is based on, by name.
    pub evidence: BTreeMap<String, String>,
}

/// A file in the ONNX format that becomes a model version. What is not given is taken from the file or from the dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelImport {
    /// The model.
    pub model: ModelName,
    /// The digest of the stored file.
    pub file: Digest,
    /// The column that the model predicts.
    pub target: String,
    /// The task.
    pub task: Option<Task>,
    /// The classes in the order of the scores; the last of two is the positive class.
    pub classes: Vec<String>,
    /// The names of the features of a file that takes one tensor of floats, in its order.
    pub features: Vec<String>,
    /// The inputs whose values may be missing.
    pub nullable: Vec<String>,
    /// The output of the file that has the scores.
    pub output: Option<String>,
    /// What the scores are.
    pub scores: Option<Scores>,
    /// The dataset that the model was trained on, or one like it, and its version; the latest by default.
    pub dataset: Option<(DatasetName, Option<u32>)>,
    /// Columns of the dataset that are neither features nor the target.
    pub ignore: Vec<String>,
    /// The description.
    pub description: String,
    /// The training that made the file; `None` for a model that was trained elsewhere.
    pub training: Option<ImportedTraining>,
}

/// The training of a file, by a worker outside of the platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImportedTraining {
    /// Its run.
    pub run: RunId,
    /// Rows of the dataset at or after this time are left out.
    pub until: Option<DateTime<Utc>>,
    /// Rows of the dataset at or after this time were not trained on: expected loss and metrics are theirs alone.
    pub validation_from: Option<DateTime<Utc>>,
}

/// What the scores of a file are: `[n]` or `[n, width]`, where the width is that of the task or, for two classes, 1 (of the positive
/// class) or 2 (of each).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scores {
    /// Probabilities of classes.
    Probabilities,
    /// Log odds of the positive class, or logits of each class: probabilities before the sigmoid or softmax.
    Logits,
    /// Numbers, of a regression.
    Numbers,
}

/// A registered model: its latest version and its aliases.
#[derive(Debug, Clone, PartialEq)]
pub struct RegisteredModel {
    /// The name.
    pub name: ModelName,
    /// A name of any spelling.
    pub title: String,
    /// The description.
    pub description: String,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
    /// When it was deleted.
    pub deleted_at: Option<DateTime<Utc>>,
    /// The latest version; `None` if it has none.
    pub latest: Option<ModelVersion>,
    /// Its aliases.
    pub aliases: Vec<Alias>,
}

/// What changes of a model or of a version; `None` and empty leave it as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Update {
    /// The title; of a model alone.
    pub title: Option<String>,
    /// The description.
    pub description: Option<String>,
    /// Tags to delete, before others are set.
    pub delete_tags: Vec<String>,
    /// Tags to set.
    pub tags: BTreeMap<String, String>,
}

/// Which version of a model is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VersionSelector {
    /// The one with the highest number.
    Latest,
    /// By number, from 1.
    Number(u32),
    /// By alias.
    Alias(AliasName),
}

impl ModelVersion {
    /// The version as serving needs it.
    pub fn reference(&self) -> VersionRef {
        VersionRef { version: self.version, bundle: self.bundle }
    }
}

/// A version is created READY if every blob that its bundle names was read and its digest verified in the same call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum VersionStatus {
    /// Verified; can be served.
    Ready,
    /// Its files are stored, but not in a format that can be served.
    NotServable,
}

/// Whether a version may be served. Any approval may be changed to any other; each change records its author, time and reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Approval {
    /// Not reviewed.
    Pending,
    /// May be served.
    Approved,
    /// Must not be served.
    Rejected,
}

impl Scores {
    /// The name in flags and messages, e.g. `logits`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Probabilities => "probabilities",
            Self::Logits => "logits",
            Self::Numbers => "numbers",
        }
    }
}

impl VersionStatus {
    /// The name in tables and output, e.g. `READY`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ready => "READY",
            Self::NotServable => "NOT_SERVABLE",
        }
    }
}

impl Approval {
    /// The name in tables and output, e.g. `APPROVED`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Approved => "APPROVED",
            Self::Rejected => "REJECTED",
        }
    }
}
