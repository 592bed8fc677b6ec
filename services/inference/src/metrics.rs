//! Metrics of one model, looked up once: counting a request neither looks up nor allocates.

use metrics::{Counter, counter, describe_counter, describe_gauge};
use rekindle_domain::ModelName;

use crate::error::RequestError;

const REQUESTS: &str = "rekindle_inference_requests_total";
const ROWS: &str = "rekindle_inference_rows_total";
const LOADS: &str = "rekindle_inference_loads_total";
const LOG_BUFFERED_ROWS: &str = "rekindle_inference_log_buffered_rows";
const LOG_PUBLISHED_ROWS: &str = "rekindle_inference_log_published_rows_total";
const LOG_DROPPED_ROWS: &str = "rekindle_inference_log_dropped_rows_total";

/// Registers the help text of every metric.
pub(crate) fn describe() {
    describe_counter!(REQUESTS, "Prediction requests by model and outcome: answered, refused or failed.");
    describe_counter!(ROWS, "Predicted rows by model.");
    describe_counter!(LOADS, "Loads of model versions by model and outcome: loaded or failed.");
    describe_gauge!(LOG_BUFFERED_ROWS, "Rows of the prediction log that are not published yet.");
    describe_counter!(LOG_PUBLISHED_ROWS, "Rows of the prediction log that the bus has acknowledged.");
    describe_counter!(LOG_DROPPED_ROWS, "Rows of the prediction log that were dropped and declared lost.");
}

/// Metrics of the requests for one model.
pub(crate) struct Metrics {
    answered: Counter,
    refused: Counter,
    failed: Counter,
    loaded: Counter,
    load_failed: Counter,
    rows: Counter,
}

impl Metrics {
    /// The metrics of a model; those of one name are the same.
    pub(crate) fn new(model: &ModelName) -> Self {
        let model = model.to_string();
        let requests = |outcome: &'static str| counter!(REQUESTS, "model" => model.clone(), "outcome" => outcome);
        let loads = |outcome: &'static str| counter!(LOADS, "model" => model.clone(), "outcome" => outcome);
        Self {
            answered: requests("answered"),
            refused: requests("refused"),
            failed: requests("failed"),
            loaded: loads("loaded"),
            load_failed: loads("failed"),
            rows: counter!(ROWS, "model" => model.clone()),
        }
    }

    /// Counts an attempt to load a version.
    pub(crate) fn record_load<T, E>(&self, outcome: &Result<T, E>) {
        match outcome {
            Ok(_) => &self.loaded,
            Err(_) => &self.load_failed,
        }
        .increment(1);
    }

    /// Counts predicted rows.
    pub(crate) fn record_rows(&self, rows: usize) {
        self.rows.increment(rows as u64);
    }

    /// Counts a request, which has an answer or an error.
    pub(crate) fn record_request(&self, error: Option<&RequestError>) {
        match error {
            None => &self.answered,
            Some(RequestError::PredictionFailed { .. }) => &self.failed,
            Some(_) => &self.refused,
        }
        .increment(1);
    }
}

/// Counts rows of the prediction log that were dropped.
pub(crate) fn record_dropped_rows(rows: u64) {
    if rows > 0 {
        counter!(LOG_DROPPED_ROWS).increment(rows);
    }
}

/// Counts rows of the prediction log that the bus has acknowledged.
pub(crate) fn record_published_rows(rows: u64) {
    counter!(LOG_PUBLISHED_ROWS).increment(rows);
}

/// Sets the number of rows of the prediction log that are not published yet.
pub(crate) fn set_buffered_rows(rows: u64) {
    metrics::gauge!(LOG_BUFFERED_ROWS).set(rows as f64);
}
