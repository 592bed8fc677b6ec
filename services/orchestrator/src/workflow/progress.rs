//! What a workflow has achieved so far: the results of its steps, each written before the next step uses it.

use chrono::{DateTime, Utc};
use rekindle_domain::{DatasetName, Digest, RunId, VersionRef};
use serde::{Deserialize, Serialize};

/// Results so far; those of later steps are empty.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// What served when the workflow began.
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
    /// What a person said, when asked.
    pub decision: Option<Decision>,
    /// When every live replica served the challenger.
    pub serving_everywhere_at: Option<DateTime<Utc>>,
}

/// The champion's dataset, and what the monitor wrote of the time after it.
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
    pub segments: Vec<Digest>,
    /// Rows from this event time on are kept for the gate.
    pub holdout_from: DateTime<Utc>,
}

/// The dataset that the challenger learns from.
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
    /// The run of the attempt before, where it may be taken up still; it is cancelled before the next attempt is submitted.
    #[serde(default)]
    pub replaces: Option<RunId>,
    /// Since when the latest attempt's run is seen as lost.
    pub lost_since: Option<DateTime<Utc>>,
    /// Whether the trainer has acknowledged the latest attempt.
    pub submitted: bool,
}

/// What a person said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Decision {
    pub approve: bool,
    pub by: String,
    pub why: String,
}

impl Progress {
    /// The champion's number; 0 before the workflow began.
    pub(crate) fn version_before(&self) -> u32 {
        self.champion.map_or(0, |version| version.version)
    }

    /// The challenger's number; 0 until it is trained.
    pub(crate) fn to_version(&self) -> u32 {
        self.challenger.map_or(0, |version| version.version)
    }
}
