//! One request: admission, decoding, prediction, the answer, and the rows handed to the log.
//!
//! Nothing here waits for the log, the bus, the registry or the disk. A refused request changes nothing and is not
//! logged.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Instant,
};

use arrow::{
    array::{Array, RecordBatch},
    datatypes::DataType,
};
use chrono::{DateTime, Utc};
use rekindle_domain::{ModelName, PredictionId};
use rekindle_model::Prediction;
use rekindle_proto::inference::{ModelInferRequest, ModelInferResponse, infer_parameter::ParameterChoice};
use tokio::{sync::Semaphore, task};

use crate::{
    config::Limits,
    log::{Answered, EventTimes, Log},
    serving::{Catalog, Serving, Slot, text_parameter},
    tensor::{BadInput, shortened},
};

/// Why a request is not answered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// No model of that name has been assigned here.
    #[error("model {model:?} is not served here: served are {served}")]
    UnknownModel {
        /// The name in the request.
        model: String,
        /// The models that are.
        served: String,
    },
    /// Another version than the one asked for answers.
    #[error("version {asked:?} of {model} is not served here: version {serving} is; ask for it or for none")]
    VersionNotServed {
        /// The model.
        model: ModelName,
        /// The version in the request.
        asked: String,
        /// The version that answers.
        serving: u32,
    },
    /// The model is assigned, and its first version is not warmed up yet.
    #[error("model {model} is still loading: try again")]
    NotLoaded {
        /// The model.
        model: ModelName,
    },
    /// Too many requests at once.
    #[error(
        "{limit} requests are being answered, the limit max_concurrent_requests: try again after a pause, or raise it"
    )]
    Overloaded {
        /// The limit.
        limit: usize,
    },
    /// The request is not what the model takes.
    #[error(transparent)]
    BadInput(#[from] BadInput),
    /// The model failed on rows that its signature allows.
    #[error("model {model} version {version} failed: {reason}")]
    Failed {
        /// The model.
        model: ModelName,
        /// The version.
        version: u32,
        /// What went wrong.
        reason: String,
    },
}

/// What the edge adds to a request: the id of the prediction, and when it arrived.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    /// A fresh UUIDv7.
    pub(crate) id: PredictionId,
    /// By the replica's clock.
    pub(crate) at: DateTime<Utc>,
}

/// Answers requests.
pub(crate) struct Engine {
    catalog: Arc<Catalog>,
    log: Arc<Log>,
    limits: Limits,
    admitted: Arc<AtomicUsize>,
    /// Threads for requests of many rows: as many as there are cores.
    large: Semaphore,
}

impl Engine {
    /// An engine that answers from `catalog` and logs to `log`.
    pub(crate) fn new(catalog: Arc<Catalog>, log: Arc<Log>, limits: Limits) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, Into::into);
        Self { catalog, log, limits, admitted: Arc::default(), large: Semaphore::new(cores) }
    }

    /// Answers one request.
    pub(crate) async fn infer(
        &self,
        request: ModelInferRequest,
        arrival: Arrival,
    ) -> Result<ModelInferResponse, Refusal> {
        let started = Instant::now();
        let slot = self.find(&request.model_name)?;
        let outcome = self.answer(&slot, request, arrival, started).await;
        slot.meters().record(&outcome, started.elapsed());
        outcome
    }

    async fn answer(
        &self,
        slot: &Arc<Slot>,
        request: ModelInferRequest,
        arrival: Arrival,
        started: Instant,
    ) -> Result<ModelInferResponse, Refusal> {
        let _admitted = self.admit()?;
        let _in_flight = slot.enter();
        let serving = serving_for(slot, &request.model_version)?;
        let wanted = serving.outputs.select(&request.outputs)?;
        let rows = serving.inputs.decode(&request, self.limits.max_rows_per_request)?;
        let event_times = event_times(&request, &serving, &rows, arrival.at)?;
        let prediction = self.predict(slot, &serving, &rows).await?;
        let response = respond(request, &serving, &wanted, &prediction, rows.num_rows(), arrival.id);
        serving.answered.fetch_add(1, Relaxed);
        slot.meters().rows.increment(rows.num_rows() as u64);
        self.log.push(Answered {
            shape: Arc::clone(&serving.log),
            prediction_id: arrival.id,
            answered_at: arrival.at + started.elapsed(),
            event_times,
            rows,
            prediction,
        });
        Ok(response)
    }

    fn admit(&self) -> Result<Admitted, Refusal> {
        let admitted = Admitted(Arc::clone(&self.admitted));
        let limit = self.limits.max_concurrent_requests;
        // The guard of a refused request gives its place back.
        if self.admitted.fetch_add(1, Relaxed) < limit { Ok(admitted) } else { Err(Refusal::Overloaded { limit }) }
    }

    /// The place of a model, by the name in a request.
    pub(crate) fn find(&self, model: &str) -> Result<Arc<Slot>, Refusal> {
        self.catalog.find(model).ok_or_else(|| {
            let mut served: Vec<_> = self.catalog.slots().iter().map(|slot| slot.model().to_string()).collect();
            served.sort();
            let served = if served.is_empty() { "none yet".to_owned() } else { served.join(", ") };
            Refusal::UnknownModel { model: shortened(model), served }
        })
    }

    /// Predicts where the rows belong: few on this thread, many on one of their own.
    async fn predict(&self, slot: &Slot, serving: &Arc<Serving>, rows: &RecordBatch) -> Result<Prediction, Refusal> {
        let outcome = if rows.num_rows() <= self.limits.inline_rows {
            guarded(serving, rows)
        } else {
            let _thread = self.large.acquire().await.expect("never closed");
            let (serving, rows) = (Arc::clone(serving), rows.clone());
            task::spawn_blocking(move || guarded(&serving, &rows)).await.unwrap_or_else(|error| Err(error.to_string()))
        };
        outcome.map_err(|reason| {
            serving.failed.fetch_add(1, Relaxed);
            tracing::error!(reason, model = %slot.model(), version = serving.version.version, "prediction failed");
            Refusal::Failed { model: slot.model().clone(), version: serving.version.version, reason }
        })
    }
}

/// A place among the admitted requests, given back when dropped.
struct Admitted(Arc<AtomicUsize>);

impl Drop for Admitted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Predicts; a panicking model fails its request and no other.
fn guarded(serving: &Serving, rows: &RecordBatch) -> Result<Prediction, String> {
    match catch_unwind(AssertUnwindSafe(|| serving.model.predict(rows))) {
        Ok(Ok(prediction)) => Ok(prediction),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the model panicked".to_owned()),
    }
}

/// The version that answers, if it is the one asked for or none was.
pub(crate) fn serving_for(slot: &Slot, asked: &str) -> Result<Arc<Serving>, Refusal> {
    let serving = slot.serving().ok_or_else(|| Refusal::NotLoaded { model: slot.model().clone() })?;
    if asked.is_empty() || asked == serving.number {
        return Ok(serving);
    }
    let (model, asked) = (slot.model().clone(), shortened(asked));
    Err(Refusal::VersionNotServed { model, asked, serving: serving.version.version })
}

/// When the rows happened: the model's time input, else the parameter `event_time`, else the arrival.
fn event_times(
    request: &ModelInferRequest,
    serving: &Serving,
    rows: &RecordBatch,
    arrived_at: DateTime<Utc>,
) -> Result<EventTimes, BadInput> {
    if let Some(column) = serving.inputs.time_input()
        && rows.column(column).data_type() == &DataType::Int64
        && rows.column(column).null_count() == 0
    {
        return Ok(EventTimes::Column(column));
    }
    let Some(parameter) = request.parameters.get("event_time") else {
        return Ok(EventTimes::Same(arrived_at.timestamp_millis()));
    };
    let time = match &parameter.parameter_choice {
        Some(ParameterChoice::StringParam(text)) => {
            DateTime::parse_from_rfc3339(text).ok().map(|time| time.timestamp_millis())
        }
        Some(ParameterChoice::Int64Param(millis)) => DateTime::from_timestamp_millis(*millis).map(|_| *millis),
        _ => None,
    };
    time.map(EventTimes::Same).ok_or_else(|| {
        BadInput::new(
            "parameters[event_time]",
            "is not a time: send an RFC 3339 string, e.g. 2026-03-01T12:00:00Z, or int64 milliseconds since 1970 UTC",
        )
    })
}

fn respond(
    request: ModelInferRequest,
    serving: &Serving,
    wanted: &[usize],
    prediction: &Prediction,
    rows: usize,
    id: PredictionId,
) -> ModelInferResponse {
    let (outputs, raw_output_contents) = serving.outputs.encode(wanted, prediction, rows);
    let mut parameters = serving.parameters.clone();
    parameters.insert("prediction_id".to_owned(), text_parameter(id.to_string()));
    ModelInferResponse {
        model_name: request.model_name,
        model_version: serving.number.clone(),
        id: request.id,
        parameters,
        outputs,
        raw_output_contents,
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::config::LogConfig;

    fn engine(max_concurrent_requests: usize) -> Engine {
        let wait = std::time::Duration::from_millis(1);
        let config = LogConfig {
            buffer_bytes: 1 << 20,
            batch_rows: 1,
            batch_bytes: 1 << 16,
            batch_interval: wait,
            retry_interval: wait,
        };
        let log = Log::new(config, "replica-1".parse().expect("a name"), Uuid::nil());
        let limits = Limits { max_rows_per_request: 1, max_message_bytes: 1, max_concurrent_requests, inline_rows: 1 };
        Engine::new(Arc::default(), Arc::new(log), limits)
    }

    #[test]
    fn requests_beyond_the_limit_are_refused_until_a_place_is_free() {
        let engine = engine(2);
        let (first, _second) = (engine.admit().expect("a place"), engine.admit().expect("a place"));
        for _ in 0..3 {
            let refused = engine.admit().map(drop).expect_err("full");
            assert!(matches!(refused, Refusal::Overloaded { limit: 2 }));
            assert!(refused.to_string().contains("max_concurrent_requests"), "{refused}");
            assert_eq!(tonic::Status::from(refused).code(), tonic::Code::ResourceExhausted);
        }
        drop(first);
        engine.admit().map(drop).expect("a place was given back");
    }
}
