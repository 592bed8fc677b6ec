//! `summary.json`: the measurements, for programs.

use chrono::{DateTime, Utc};
use serde::Serialize;

/// The whole file.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Summary {
    /// Prediction requests sent.
    pub requests: u64,
    /// Requests without a response, or with an error.
    pub failed_requests: u64,
    /// Rows sent, over all requests.
    pub rows: u64,
    /// Every workflow, oldest first.
    pub workflows: Vec<WorkflowSummary>,
    /// Scores of the unchanged first model on the rows after the first redeployment.
    #[serde(rename = "static")]
    pub unchanged: Option<Scores>,
    /// Scores of the predictions served, on the same rows.
    pub live: Option<Scores>,
    /// Events published.
    pub events_published: u64,
    /// Longest time from the close of a window that raised an alert until every replica served the new version, in seconds.
    pub time_to_respond_s: Option<f64>,
    /// Duration of the demonstration.
    pub seconds: f64,
}

/// One retraining workflow.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct WorkflowSummary {
    pub id: String,
    pub trigger: String,
    pub state: String,
    pub queued_at: Option<DateTime<Utc>>,
    pub serving_everywhere_at: Option<DateTime<Utc>>,
    /// 0 if unknown.
    pub from_version: u32,
    /// 0 until trained.
    pub to_version: u32,
}

/// Quality on a set of rows. The task determines which scores are set.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Scores {
    /// Mean negative log-likelihood, in nats.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_loss: Option<f64>,
    /// Area under the ROC curve (two classes only).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auc: Option<f64>,
    /// Mean absolute error, in units of the target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mae: Option<f64>,
    /// Root mean squared error, in units of the target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rmse: Option<f64>,
}

impl Scores {
    /// The score that is compared: log loss, or the mean absolute error. Lower is better.
    pub(crate) fn headline(&self) -> Option<f64> {
        self.log_loss.or(self.mae)
    }
}
