//! Prediction requests that have no answer, as the log of failed requests holds them.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{ModelName, PredictionId, ReplicaId};

/// What a replica reports about the failed requests for one model, in one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailureReport {
    /// The model.
    pub model: ModelName,
    /// The replica.
    pub replica: ReplicaId,
    /// The incarnation of the replica: a new one at every start. `sequence` and `lost_before` count within it.
    pub incarnation: Uuid,
    /// The number of this message for the model within the incarnation, from 1.
    pub sequence: u64,
    /// Failed requests since the previous message that no message lists.
    pub lost_before: u64,
    /// The failed requests.
    pub failures: Vec<FailedRequests>,
}

/// Requests that failed for one reason, with one message, in one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedRequests {
    /// The replica that refused or failed them.
    pub replica: ReplicaId,
    /// The version that was to answer; `None` if none was selected.
    pub version: Option<u32>,
    /// The reason as an identifier, e.g. `INVALID_INPUT` or `QUEUE_FULL`.
    pub reason: String,
    /// What the caller received.
    pub message: String,
    /// How many requests.
    pub requests: u64,
    /// When the first of them failed, by the replica's clock.
    pub first_at: DateTime<Utc>,
    /// When the last of them failed.
    pub last_at: DateTime<Utc>,
    /// The client's id of the first of them; empty without one.
    pub request_id: String,
    /// The prediction id of the first of them.
    pub prediction: PredictionId,
}

impl FailureReport {
    /// The id of the message for the bus: `<replica>/<incarnation>/failures/<model>/<sequence>`.
    pub fn message_id(&self) -> String {
        let Self { model, replica, incarnation, sequence, .. } = self;
        format!("{replica}/{incarnation}/failures/{model}/{sequence}")
    }
}
