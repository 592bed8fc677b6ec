//! Meters of one model, looked up once: counting a request looks up and allocates nothing.

use std::time::Duration;

use metrics::{Counter, Histogram, counter, histogram};
use rekindle_domain::ModelName;

use crate::infer::Refusal;

/// What is counted about a model's requests.
pub(crate) struct Meters {
    answered: Counter,
    refused: Counter,
    failed: Counter,
    duration: Histogram,
    loaded: Counter,
    unloadable: Counter,
    /// Rows answered.
    pub(crate) rows: Counter,
}

impl Meters {
    /// The meters of a model; those of one name are the same.
    pub(crate) fn new(model: &ModelName) -> Self {
        let model = model.to_string();
        let requests = |outcome: &'static str| counter!("rekindle_inference_requests_total", "model" => model.clone(), "outcome" => outcome);
        let loads = |outcome: &'static str| counter!("rekindle_inference_loads_total", "model" => model.clone(), "outcome" => outcome);
        Self {
            answered: requests("answered"),
            refused: requests("refused"),
            failed: requests("failed"),
            duration: histogram!("rekindle_inference_duration_seconds", "model" => model.clone()),
            loaded: loads("loaded"),
            unloadable: loads("failed"),
            rows: counter!("rekindle_inference_rows_total", "model" => model.clone()),
        }
    }

    /// Counts a try to load a version.
    pub(crate) fn loaded(&self, succeeded: bool) {
        if succeeded { &self.loaded } else { &self.unloadable }.increment(1);
    }

    /// Counts a request that took `duration` from its decoded message to its answer.
    pub(crate) fn record<T>(&self, outcome: &Result<T, Refusal>, duration: Duration) {
        match outcome {
            Ok(_) => &self.answered,
            Err(Refusal::Failed { .. }) => &self.failed,
            Err(_) => &self.refused,
        }
        .increment(1);
        self.duration.record(duration);
    }
}
