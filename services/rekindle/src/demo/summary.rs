//! `summary.json`: what the demonstration measured, for programs.

use chrono::{DateTime, Utc};
use serde::Serialize;

/// The whole file.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Summary {
    /// Inference requests sent.
    pub requests: u64,
    /// Requests that were not answered, or answered with an error.
    pub failed_requests: u64,
    /// Rows sent, over all requests.
    pub rows: u64,
    /// Every workflow, in the order of queueing.
    pub workflows: Vec<WorkflowSummary>,
    /// The first model kept unchanged, on the rows replayed after the first redeploy.
    #[serde(rename = "static")]
    pub unchanged: Option<Scores>,
    /// What was answered, on the same rows.
    pub live: Option<Scores>,
    /// Facts on the bus.
    pub events_published: u64,
    /// The longest span from the close of a window that alarmed to its new version answering on every replica.
    pub time_to_respond_s: Option<f64>,
    /// The demonstration itself, without any build.
    pub seconds: f64,
}

/// One trip round the loop.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct WorkflowSummary {
    pub id: String,
    pub trigger: String,
    pub state: String,
    pub queued_at: Option<DateTime<Utc>>,
    pub serving_everywhere_at: Option<DateTime<Utc>>,
    pub from_version: u32,
    pub to_version: u32,
}

/// Quality on a set of rows; which numbers there are depends on the task.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Scores {
    /// Mean negative log-likelihood, in nats.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_loss: Option<f64>,
    /// Area under the ROC curve (two classes only).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auc: Option<f64>,
    /// Mean absolute error, in the target's units.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mae: Option<f64>,
    /// Root mean squared error, in the target's units.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rmse: Option<f64>,
}

impl Scores {
    /// The number that is compared, and lower is better: log loss, or the mean absolute error.
    pub(crate) fn headline(&self) -> Option<f64> {
        self.log_loss.or(self.mae)
    }
}
