//! Prediction requests, independent of the protocol that carries them: admission, routing, prediction, and the record for the log.
//!
//! A request waits for neither the log, the bus, the registry nor the disk. A refused request changes nothing and is not logged.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Instant,
};

use arrow::{
    array::{AsArray, RecordBatch},
    datatypes::Int64Type,
};
use chrono::{DateTime, Utc};
use rekindle_bundle::Prediction;
use rekindle_domain::{PredictionId, Traffic, event_time::Bounds};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    task,
};

use crate::{
    config::{self, Limits},
    error::RequestError,
    log::{EventTimes, Log, PredictionRecord},
    routes,
    serving::{Catalog, InFlight, LoadedVersion, Slot},
    tensor::{InvalidInput, Rows, output::Selection, shortened},
};

/// What executes the models of this platform.
pub(crate) const PLATFORM: &str = "rekindle_burn";

/// The model and the version that a request names.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target<'a> {
    /// The model's name.
    pub(crate) model: &'a str,
    /// The version's number, or empty.
    pub(crate) version: &'a str,
}

/// When a request arrived, and the id of its prediction.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    /// A fresh UUIDv7.
    pub(crate) id: PredictionId,
    /// By the replica's clock.
    pub(crate) at: DateTime<Utc>,
}

/// A prediction request for one model version, decoded.
#[derive(Debug)]
pub(crate) struct Request {
    /// The caller's id of the request, which the answer repeats.
    pub(crate) id: String,
    /// The rows.
    pub(crate) rows: Rows,
    /// The outputs to return.
    pub(crate) outputs: Selection,
    /// When the rows occurred, in milliseconds since 1970 UTC. A time input of the model takes precedence.
    pub(crate) event_time: Option<i64>,
    /// What it is sent for.
    pub(crate) traffic: Traffic,
}

/// The answer to a prediction request.
pub(crate) struct Answer {
    /// The prediction's id.
    pub(crate) id: PredictionId,
    /// The caller's id of the request.
    pub(crate) request_id: String,
    /// The version that answered. The request is in flight until this is dropped.
    pub(crate) version: InFlight,
    /// The outputs to return.
    pub(crate) outputs: Selection,
    /// Every output, shared with the log.
    pub(crate) prediction: Arc<Prediction>,
}

/// Answers prediction requests.
pub(crate) struct Engine {
    catalog: Arc<Catalog>,
    log: Arc<Log>,
    limits: Limits,
    bounds: config::EventTimes,
    /// One permit per request that may be in flight.
    admission: Semaphore,
    /// One permit per request of many rows that may be predicted at once: as many as there are cores.
    large: Semaphore,
}

impl Engine {
    /// An engine that answers from `catalog` and logs to `log`.
    pub(crate) fn new(catalog: Arc<Catalog>, log: Arc<Log>, limits: Limits, bounds: config::EventTimes) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, Into::into);
        let admission = Semaphore::new(limits.max_concurrent_requests);
        Self { catalog, log, limits, bounds, admission, large: Semaphore::new(cores) }
    }

    /// The loaded version that answers requests for `target`.
    pub(crate) fn find(&self, target: Target<'_>) -> Result<Arc<LoadedVersion>, RequestError> {
        routes::select(&*self.slot(target.model)?, target.version)
    }

    /// The names of the models that this replica serves or loads, sorted.
    pub(crate) fn models(&self) -> Vec<String> {
        let mut names: Vec<_> = self.catalog.slots().iter().map(|slot| slot.model().to_string()).collect();
        names.sort();
        names
    }

    /// Answers one request, which `decode` decodes for the version that answers it.
    pub(crate) async fn infer(
        &self,
        target: Target<'_>,
        arrival: Arrival,
        decode: impl FnOnce(&LoadedVersion) -> Result<Request, InvalidInput>,
    ) -> Result<Answer, RequestError> {
        let started = Instant::now();
        let slot = self.slot(target.model)?;
        let outcome = self.answer(&slot, target.version, arrival, started, decode).await;
        slot.metrics().record_request(&outcome, started.elapsed());
        outcome
    }

    async fn answer(
        &self,
        slot: &Slot,
        requested: &str,
        arrival: Arrival,
        started: Instant,
        decode: impl FnOnce(&LoadedVersion) -> Result<Request, InvalidInput>,
    ) -> Result<Answer, RequestError> {
        let _admitted = self.admit()?;
        let version = InFlight::enter(routes::select(slot, requested)?);
        let Request { id: request_id, rows, outputs, event_time, traffic } = decode(&version)?;
        let Rows { inputs: rows, entity_keys } = rows;
        let event_times = event_times(&version, &rows, event_time, arrival.at);
        if traffic == Traffic::Live {
            check(event_times, &version, &rows, arrival.at, self.bounds.of(slot.model()))?;
        }
        let prediction = Arc::new(self.predict(&version, &rows, arrival.id).await?);
        version.count_answered();
        slot.metrics().record_rows(rows.num_rows());
        self.log.push(PredictionRecord {
            schema: Arc::clone(&version.log),
            prediction_id: arrival.id,
            answered_at: arrival.at + started.elapsed(),
            event_times,
            is_test: traffic == Traffic::Test,
            request_id: request_id.clone(),
            entity_keys,
            rows,
            prediction: Arc::clone(&prediction),
        });
        Ok(Answer { id: arrival.id, request_id, version, outputs, prediction })
    }

    fn admit(&self) -> Result<SemaphorePermit<'_>, RequestError> {
        let limit = self.limits.max_concurrent_requests;
        self.admission.try_acquire().map_err(|_| RequestError::TooManyRequests { limit })
    }

    fn slot(&self, model: &str) -> Result<Arc<Slot>, RequestError> {
        self.catalog.find(model).ok_or_else(|| {
            let served = self.models();
            let served = if served.is_empty() { "no model yet".to_owned() } else { served.join(", ") };
            RequestError::ModelNotServed { model: shortened(model), served }
        })
    }

    /// Predicts few rows on this thread, and many on another one, so that they do not delay other requests.
    async fn predict(
        &self,
        version: &InFlight,
        rows: &RecordBatch,
        id: PredictionId,
    ) -> Result<Prediction, RequestError> {
        let outcome = if rows.num_rows() <= self.limits.inline_rows {
            guarded(version, rows)
        } else {
            let _permit = self.large.acquire().await.expect("the semaphore is never closed");
            let (version, rows) = (version.shared(), rows.clone());
            task::spawn_blocking(move || guarded(&version, &rows)).await.unwrap_or_else(|error| Err(error.to_string()))
        };
        outcome.map_err(|reason| {
            version.count_failed();
            let (model, number) = (version.name.clone(), version.version.version);
            tracing::error!(reason, %model, version = number, prediction_id = %id, "prediction failed");
            RequestError::PredictionFailed { prediction: id, model, version: number }
        })
    }
}

/// Predicts. A model that panics fails its request and no other.
fn guarded(version: &LoadedVersion, rows: &RecordBatch) -> Result<Prediction, String> {
    match catch_unwind(AssertUnwindSafe(|| version.model.predict(rows))) {
        Ok(Ok(prediction)) => Ok(prediction),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the model panicked".to_owned()),
    }
}

/// When the rows occurred: the model's time input, else the time that the request states, else its arrival.
fn event_times(
    version: &LoadedVersion,
    rows: &RecordBatch,
    stated: Option<i64>,
    arrived_at: DateTime<Utc>,
) -> EventTimes {
    match version.inputs.event_time_column(rows) {
        Some(column) => EventTimes::Column(column),
        None => EventTimes::Same(stated.unwrap_or_else(|| arrived_at.timestamp_millis())),
    }
}

/// Refuses rows of a live request whose event time is far from the arrival.
fn check(
    event_times: EventTimes,
    version: &LoadedVersion,
    rows: &RecordBatch,
    arrived_at: DateTime<Utc>,
    bounds: Bounds,
) -> Result<(), InvalidInput> {
    let arrival = arrived_at.timestamp_millis();
    match event_times {
        EventTimes::Same(time) => {
            bounds.check(time, arrival).map_err(|error| InvalidInput::new("parameters[event_time]", error.to_string()))
        }
        EventTimes::Column(column) => {
            let mut times = rows.column(column).as_primitive::<Int64Type>().values().iter().enumerate();
            let far = times.find_map(|(row, &time)| Some((row, bounds.check(time, arrival).err()?)));
            let name = version.inputs.name(column);
            far.map_or(Ok(()), |(row, error)| Err(InvalidInput::of_tensor(name, format!("row {row} {error}"))))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use arrow::datatypes::Schema;
    use uuid::Uuid;

    use super::*;
    use crate::{
        config::LogConfig,
        serving::{Progress, fixture},
    };

    const TARGET: Target<'_> = Target { model: "flight-delay", version: "" };
    const ARRIVAL: Arrival = Arrival { id: PredictionId::new(Uuid::nil()), at: DateTime::UNIX_EPOCH };

    fn engine(max_concurrent_requests: usize) -> Engine {
        let interval = Duration::from_millis(1);
        let config = LogConfig {
            buffer_bytes: 1 << 20,
            batch_rows: 1,
            batch_bytes: 1 << 16,
            batch_interval: interval,
            retry_interval: interval,
        };
        let log = Log::new(config, "replica-1".parse().expect("a name"), Uuid::nil());
        let limits = Limits { max_rows_per_request: 1, max_message_bytes: 1, max_concurrent_requests, inline_rows: 1 };
        let bounds = config::EventTimes {
            max_age: Duration::from_secs(60),
            max_ahead: Duration::ZERO,
            models: vec![config::ModelEventTimes {
                model: "flight-delay".parse().expect("a name"),
                max_age: Duration::ZERO,
                max_ahead: Duration::from_millis(7),
            }],
        };
        Engine::new(Arc::default(), Arc::new(log), limits, bounds)
    }

    #[test]
    fn requests_beyond_the_limit_are_refused_until_one_ends() {
        let engine = engine(2);
        let (first, _second) = (engine.admit().expect("admitted"), engine.admit().expect("admitted"));
        for _ in 0..3 {
            let refused = engine.admit().map(drop).expect_err("two are in flight");
            assert!(matches!(refused, RequestError::TooManyRequests { limit: 2 }));
        }
        drop(first);
        engine.admit().map(drop).expect("one has ended");
    }

    /// A decoded request of one row, which no protocol has encoded.
    fn request(version: &LoadedVersion, rows: usize) -> Request {
        let outputs = version.outputs.select([].into_iter()).expect("every output");
        Request {
            id: "mine".to_owned(),
            rows: Rows { inputs: fixture::rows(rows), entity_keys: None },
            outputs,
            event_time: Some(7),
            traffic: Traffic::Live,
        }
    }

    #[tokio::test]
    async fn rows_are_predicted_counted_and_logged_without_a_protocol() {
        let engine = engine(8);
        let version = fixture::loaded(3);
        engine.catalog.slot(&fixture::model()).serve(&version, &[], &Progress::default());
        // One row is predicted inline, two rows on another thread.
        for rows in [1, 2] {
            let answer = engine.infer(TARGET, ARRIVAL, |version| Ok(request(version, rows))).await.expect("answered");
            assert_eq!((answer.request_id.as_str(), answer.version.number.as_str()), ("mine", "3"));
            assert_eq!((answer.prediction.rows, answer.outputs.len()), (rows, 2));
            assert_eq!(version.report().in_flight, 1, "until the answer is dropped");
        }
        let report = version.report();
        assert_eq!((report.answered, report.failed, report.in_flight), (2, 0, 0));
        assert_eq!(engine.log.buffered_rows(), 3);
    }

    #[tokio::test]
    async fn the_event_time_of_a_live_request_is_near_its_arrival() {
        let engine = engine(8);
        let version = fixture::loaded(3);
        engine.catalog.slot(&fixture::model()).serve(&version, &[], &Progress::default());
        for (event_time, traffic, is_answered) in [
            (None, Traffic::Live, true),
            (Some(7), Traffic::Live, true),
            (Some(8), Traffic::Live, false),
            (Some(-1), Traffic::Live, false),
            (Some(i64::MIN), Traffic::Replay, true),
            (Some(i64::MAX), Traffic::Test, true),
        ] {
            let request = |version: &LoadedVersion| Ok(Request { event_time, traffic, ..request(version, 1) });
            let outcome = engine.infer(TARGET, ARRIVAL, request).await;
            assert_eq!(outcome.is_ok(), is_answered, "{event_time:?}, {traffic}");
            if let Err(refused) = outcome {
                assert!(refused.to_string().starts_with("parameters[event_time]: is 19"), "{refused}");
            }
        }
        assert_eq!((version.report().failed, engine.log.buffered_rows()), (0, 4));
    }

    #[tokio::test]
    async fn a_refused_request_changes_nothing_and_a_failed_one_counts_as_failed() {
        let engine = engine(8);
        let version = fixture::loaded(3);
        engine.catalog.slot(&fixture::model()).serve(&version, &[], &Progress::default());
        let refused = engine.infer(TARGET, ARRIVAL, |_| Err(InvalidInput::new("inputs", "is empty"))).await;
        assert!(matches!(refused, Err(RequestError::InvalidInput(_))));
        assert_eq!((version.report().failed, engine.log.buffered_rows()), (0, 0));

        let broken = |version: &LoadedVersion| {
            let inputs = RecordBatch::new_empty(Arc::new(Schema::empty()));
            Ok(Request { rows: Rows { inputs, entity_keys: None }, ..request(version, 1) })
        };
        let failed = engine.infer(TARGET, ARRIVAL, broken).await.err().expect("the model needs its input");
        assert!(matches!(failed, RequestError::PredictionFailed { version: 3, .. }), "{failed}");
        let report = version.report();
        assert_eq!((report.answered, report.failed, report.in_flight), (0, 1, 0));
        assert_eq!(engine.log.buffered_rows(), 0);
    }

    #[tokio::test]
    async fn a_request_for_an_unknown_model_is_refused_before_it_is_decoded() {
        let target = Target { model: "weather", version: "" };
        let refused = engine(1).infer(target, ARRIVAL, |_| unreachable!("no version")).await.err().expect("refused");
        assert_eq!(refused.to_string(), "model \"weather\" is not served by this replica: it serves no model yet");
    }
}
