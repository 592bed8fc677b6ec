//! The results of the steps of a workflow, each written before the next step uses it.

use chrono::{DateTime, Utc};
use rekindle_domain::{DatasetName, Digest, Recipe, RunId, VersionRef};
use serde::{Deserialize, Serialize};

/// Results so far; those of later steps are empty.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// The stable version when the workflow started.
    pub champion: Option<VersionRef>,
    /// The labelled rows, before they are registered.
    pub capture: Option<Capture>,
    /// The registered dataset.
    pub dataset: Option<DatasetRef>,
    pub training: Job,
    pub challenger: Option<VersionRef>,
    pub evaluation: Job,
    /// The digest of the stored evaluation.
    pub verdict: Option<Digest>,
    /// Whether the evaluation compared both models: there were rows enough.
    #[serde(default)]
    pub is_compared: bool,
    /// The recipe of the challenger, which a search may have chosen.
    #[serde(default)]
    pub recipe: Option<Recipe>,
    /// The refit of the challenger.
    #[serde(default)]
    pub refit: Refit,
    /// The decision of a person, if the policy requires approval.
    pub decision: Option<Reviewed>,
    /// When every live replica served the challenger.
    pub serving_everywhere_at: Option<DateTime<Utc>>,
}

/// The training of the challenger on all rows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Refit {
    pub training: Job,
    /// The version that it made.
    pub version: Option<VersionRef>,
    /// The comparison with the challenger that was evaluated.
    pub check: Job,
    /// The digest of that comparison, if the refit takes the place of the challenger.
    #[serde(default)]
    pub verdict: Option<Digest>,
}

/// The dataset of the champion, and the export of the labelled rows after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Capture {
    /// The Parquet blob of the champion's dataset.
    pub base_blob: Digest,
    /// The content digest of the champion's dataset.
    pub base_content: Digest,
    pub time_column: String,
    /// The Parquet blob of the labelled rows.
    pub blob: Digest,
    pub rows: u64,
    /// Digests of the export manifests.
    #[serde(alias = "segments")]
    pub manifests: Vec<Digest>,
    /// Rows from this event time on are held out for the gate.
    pub holdout_from: DateTime<Utc>,
}

/// The dataset that the challenger is trained on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DatasetRef {
    pub name: DatasetName,
    pub version: u32,
}

/// A job on the trainer's queue.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Job {
    /// The run of the latest attempt; `None` before the first.
    pub run: Option<RunId>,
    /// Attempts so far.
    pub attempts: u32,
    /// The run of the attempt before, if it may still be resumed; it is cancelled before the next attempt is submitted.
    #[serde(default)]
    pub replaces: Option<RunId>,
    /// Since when the run of the latest attempt is lost.
    pub lost_since: Option<DateTime<Utc>>,
    /// Whether the trainer has acknowledged the latest attempt.
    pub submitted: bool,
}

/// The decision of a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reviewed {
    pub approve: bool,
    /// The principal that decided.
    pub by: String,
    pub why: String,
}

impl Progress {
    /// The number of the champion; `None` before the workflow started.
    pub(crate) fn champion_version(&self) -> Option<u32> {
        self.champion.map(|version| version.version)
    }

    /// The number of the challenger; `None` until it is trained.
    pub(crate) fn challenger_version(&self) -> Option<u32> {
        self.challenger.map(|version| version.version)
    }
}
