//! The prediction log as its readers see it: logged rows, counters, and exports of labelled rows.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::{Digest, ModelName, PredictionId, VersionRef, outcome::Label};

/// A value of a feature.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A number.
    Number(f64),
    /// A whole number.
    Integer(i64),
    /// A text or category.
    Text(String),
    /// A boolean.
    Boolean(bool),
}

/// One logged row.
#[derive(Debug, Clone, PartialEq)]
pub struct LoggedPrediction {
    /// The prediction.
    pub prediction: PredictionId,
    /// The row within the request, from 0.
    pub row: u32,
    /// The model.
    pub model: ModelName,
    /// The version that answered.
    pub version: VersionRef,
    /// The replica that answered.
    pub replica: String,
    /// The event time of the row.
    pub event_time: Option<DateTime<Utc>>,
    /// When it was answered.
    pub answered_at: Option<DateTime<Utc>>,
    /// Features by name. A missing value has no entry.
    pub inputs: BTreeMap<String, Value>,
    /// Elements of the output tensors for this row, little-endian, as sent.
    pub outputs: BTreeMap<String, Vec<u8>>,
    /// The label, if reported.
    pub label: Option<Label>,
    /// Whether the request was a test request.
    pub is_test: bool,
    /// The client's id of the request.
    pub request_id: Option<String>,
    /// What the row is about, as the request states it.
    pub entity_key: Option<String>,
    /// What guardrails clipped or flagged in the row, e.g. `inputs[distance] range clip`.
    pub guardrails: Option<String>,
}

/// Counters of the log of one model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaptureStatus {
    /// The model.
    pub model: ModelName,
    /// Rows captured, without test rows.
    pub predictions: u64,
    /// Captured rows of test requests.
    pub tests: u64,
    /// Rows that replicas declared lost.
    pub lost: u64,
    /// Rows that replicas declared to be outside of the sample of the model.
    pub unsampled: u64,
    /// Messages that never arrived.
    pub lost_messages: u64,
    /// Outcomes captured, repetitions included.
    pub outcomes: u64,
    /// What became of them.
    pub outcome_counts: OutcomeCounts,
    /// The watermark: windows that end until then are closed. `None` before enough rows have come.
    pub watermark: Option<DateTime<Utc>>,
    /// Captured rows whose window had closed before they arrived.
    pub late: u64,
    /// Rows that are too far ahead of the watermark to advance it.
    pub ahead: Option<RowsAhead>,
    /// Files of the log.
    pub chunks: u64,
    /// Windows that are not reported yet.
    pub open_windows: u64,
    /// What retention has deleted; `None` if nothing was.
    pub deleted: Option<DeletedRows>,
}

/// Captured rows that retention has deleted. The counters of [`CaptureStatus`] include them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeletedRows {
    /// Rows of the prediction log, without test rows.
    pub rows: u64,
    /// Outcomes, repetitions included.
    pub outcomes: u64,
    /// The latest event time among the rows; `None` if there are none.
    pub until: Option<DateTime<Utc>>,
}

/// What became of the outcomes of a model; repetitions are included.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutcomeCounts {
    /// The prediction is captured, and the label is valid for its model version.
    pub matched: u64,
    /// The prediction is not captured yet.
    pub pending: u64,
    /// The prediction was not captured within the wait for it.
    pub unmatched: u64,
    /// The request has fewer rows.
    pub row_out_of_range: u64,
    /// The prediction was made by another model.
    pub wrong_model: u64,
    /// The label is no value of the target.
    pub invalid_label: u64,
    /// The request id, or the entity key and event time, is that of several predictions.
    pub ambiguous: u64,
    /// Lines on the bus that are no outcome.
    pub malformed: u64,
    /// An example of each reason that is not zero, by the name of its field.
    pub examples: BTreeMap<String, String>,
}

impl OutcomeCounts {
    /// The outcomes that no quality counts, by reason: `(name of the field, count)`.
    pub fn refused(&self) -> [(&'static str, u64); 6] {
        [
            ("unmatched", self.unmatched),
            ("row_out_of_range", self.row_out_of_range),
            ("wrong_model", self.wrong_model),
            ("invalid_label", self.invalid_label),
            ("ambiguous", self.ambiguous),
            ("malformed", self.malformed),
        ]
    }
}

/// The reception of reported outcomes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AcceptedOutcomes {
    /// Outcomes accepted.
    pub accepted: u64,
    /// Accepted outcomes whose prediction is captured.
    pub matched: u64,
}

/// Rows that are too far ahead of the watermark to advance it until more rows agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowsAhead {
    /// How many; rows of one request beyond the number that agreement takes are not counted.
    pub rows: u64,
    /// The number of their requests.
    pub requests: u64,
    /// The earliest of their event times.
    pub from: DateTime<Utc>,
}

/// A range of labelled rows to export.
#[derive(Debug, Clone, PartialEq)]
pub struct ExportRequest {
    /// The model.
    pub model: ModelName,
    /// First event time; `None` is unbounded.
    pub from: Option<DateTime<Utc>>,
    /// End of the range, exclusive; `None` is unbounded.
    pub until: Option<DateTime<Utc>>,
    /// Name of the target column in the export.
    pub target: String,
    /// Name of the time column in the export.
    pub time_column: String,
    /// Share of the rows, the latest ones, to hold out, in [0, 1).
    pub holdout_share: f64,
}

/// Exported labelled rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelledExport {
    /// The Parquet blob; `None` if there are no rows.
    pub blob: Option<Digest>,
    /// Rows exported.
    pub rows: u64,
    /// First and last event time.
    pub time_range: Option<(DateTime<Utc>, DateTime<Utc>)>,
    /// The manifest that lists what was read; `None` if there are no rows.
    pub manifest: Option<Digest>,
    /// The event time at or after which the held-out share of the rows lies.
    pub holdout_from: Option<DateTime<Utc>>,
    /// Logged rows of the range beyond the limit of an export.
    pub rows_left_out: u64,
}
