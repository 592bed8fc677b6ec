//! Prediction requests, independent of the protocol that carries them: routing, admission, prediction, and the record for the log.
//!
//! A request waits for neither the log, the bus, the registry nor the disk. A refused request changes nothing but the log of failures.

use std::{borrow::Cow, collections::BTreeSet, sync::Arc, time::Instant};

use arrow::{
    array::{AsArray, RecordBatch},
    datatypes::Int64Type,
};
use chrono::{DateTime, Utc};
use rekindle_bundle::{Explanation, Prediction};
use rekindle_domain::{PredictionId, Traffic, event_time::Bounds};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{
    config::{self, Limits},
    error::RequestError,
    execution::{self, Executed, Executor},
    failures::{FailedRequest, FailureLog},
    guardrails::{Hits, RefusedOutput},
    log::{EventTimes, Log, PredictionRecord},
    parameters::Parameters,
    routes::{self, Route},
    serving::{Catalog, InFlight, LoadedVersion, Slot},
    shadow::Shadows,
    statistics::{Phase, Stopwatch},
    tensor::{
        Accepted, Inputs, InvalidInput, Rows,
        output::{Outputs, Selection},
        shortened,
    },
};

/// No input is redacted where no version is selected.
static NOTHING: BTreeSet<String> = BTreeSet::new();

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
    /// What its parameters say.
    pub(crate) parameters: Parameters,
}

/// A prediction request as a protocol carries it.
pub(crate) trait Message {
    /// The answer as the protocol carries it.
    type Answer;

    /// What the request belongs to, where its requests are to be answered by the same version: the parameter `routing_key`, or the entity
    /// key of the first row.
    fn routing_key(&self) -> Option<Cow<'_, [u8]>>;

    /// The caller's id of the request, which may be longer than is allowed.
    fn request_id(&self) -> &str;

    /// Decodes the request for a version with these inputs and outputs.
    fn decode(&self, inputs: &Inputs, outputs: &Outputs, accepted: Accepted) -> Result<Request, InvalidInput>;

    /// Encodes the answer.
    fn encode(&self, answer: &Answer<'_>) -> Self::Answer;
}

/// The answer to a prediction request.
pub(crate) struct Answer<'a> {
    /// The prediction's id.
    pub(crate) id: PredictionId,
    /// The caller's id of the request.
    pub(crate) request_id: &'a str,
    /// The version that answered.
    pub(crate) version: &'a LoadedVersion,
    /// Why this version answered.
    pub(crate) route: Route,
    /// The outputs to return.
    pub(crate) outputs: Selection,
    /// Every output, shared with the log.
    pub(crate) prediction: Arc<Prediction>,
    /// Why each row has its score, if the request asks for it.
    pub(crate) explanation: Option<Explanation>,
    /// How unlike the reference data each row is, if the request asks for it.
    pub(crate) outlier_scores: Option<Vec<f64>>,
    /// What guardrails have clipped and flagged.
    pub(crate) hits: Hits,
}

impl Answer<'_> {
    /// The parameters of the answer: which prediction it is, which version answered and why, and what was found about the rows.
    pub(crate) fn parameters(&self) -> impl Iterator<Item = (&'static str, String)> {
        let provenance = self.version.provenance.iter().map(|(name, value)| (*name, value.clone()));
        let scores = self.outlier_scores.as_ref().map(|scores| {
            let json = serde_json::to_string(scores).expect("numbers have a JSON form");
            ("outlier_scores", json)
        });
        let hits = self.hits.summary().map(|summary| ("guardrails", summary));
        let own = [("prediction_id", self.id.to_string()), ("route", self.route.as_str().to_owned())];
        provenance.chain(own).chain(scores).chain(hits)
    }
}

/// Where requests are logged.
pub(crate) struct Logs {
    /// Those that are answered.
    pub(crate) answers: Arc<Log>,
    /// Those that are not.
    pub(crate) failures: Arc<FailureLog>,
}

/// Answers prediction requests.
pub(crate) struct Engine {
    catalog: Arc<Catalog>,
    logs: Logs,
    limits: Limits,
    bounds: config::EventTimes,
    /// One permit per request that may be in flight.
    admission: Semaphore,
    executor: Arc<Executor>,
    shadows: Arc<Shadows>,
}

impl Engine {
    /// An engine that answers from `catalog` and logs to `logs`.
    pub(crate) fn new(
        catalog: Arc<Catalog>,
        logs: Logs,
        shadows: Arc<Shadows>,
        executor: Arc<Executor>,
        limits: Limits,
        bounds: config::EventTimes,
    ) -> Self {
        let admission = Semaphore::new(limits.max_concurrent_requests);
        Self { catalog, logs, limits, bounds, admission, executor, shadows }
    }

    /// The limits of requests.
    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The loaded version that `target` names, or the primary version.
    pub(crate) fn find(&self, target: Target<'_>) -> Result<Arc<LoadedVersion>, RequestError> {
        routes::find(&*self.slot(target.model)?, target.version)
    }

    /// The models that this replica serves or loads, by name.
    pub(crate) fn slots(&self) -> Vec<Arc<Slot>> {
        let mut slots = self.catalog.slots();
        slots.sort_by(|one, other| one.model().cmp(other.model()));
        slots
    }

    /// The names of the models that this replica serves or loads, sorted.
    pub(crate) fn models(&self) -> Vec<String> {
        self.slots().iter().map(|slot| slot.model().to_string()).collect()
    }

    /// Answers one request.
    pub(crate) async fn infer<M: Message>(
        &self,
        target: Target<'_>,
        arrival: Arrival,
        message: &M,
    ) -> Result<M::Answer, RequestError> {
        let started = Instant::now();
        let slot = self.slot(target.model)?;
        let selected = routes::select(&slot, target.version, arrival.id, || message.routing_key());
        let (selected, outcome) = match selected {
            Ok((version, route)) => {
                let version = InFlight::enter(version);
                let outcome = self.measured(&slot, &version, route, arrival, started, message).await;
                (Some(version), outcome)
            }
            Err(error) => (None, Err(error)),
        };
        let request = FailedRequest {
            version: selected.as_ref().map(|version| version.version.version),
            at: arrival.at + started.elapsed(),
            request_id: message.request_id(),
            prediction: arrival.id,
            redacted: selected.as_ref().map_or(&NOTHING, |version| &version.redacted),
        };
        self.record(&slot, outcome.as_ref().err(), &request);
        outcome
    }

    /// Counts and logs a request that no protocol can decode.
    pub(crate) fn refuse(&self, target: Target<'_>, arrival: Arrival, invalid: InvalidInput) -> RequestError {
        let slot = match self.slot(target.model) {
            Ok(slot) => slot,
            Err(unknown) => return unknown,
        };
        let error = RequestError::from(invalid);
        let Arrival { id: prediction, at } = arrival;
        let redacted = slot.snapshot().redacted();
        let request = FailedRequest { version: None, at, request_id: "", prediction, redacted: &redacted };
        self.record(&slot, Some(&error), &request);
        error
    }

    /// Counts a request, and logs it if it has no answer.
    fn record(&self, slot: &Slot, error: Option<&RequestError>, request: &FailedRequest<'_>) {
        slot.metrics().record_request(error);
        if let Some(error) = error {
            self.logs.failures.record(slot.model(), error, request);
        }
    }

    /// Answers with a version, and measures what it costs.
    async fn measured<M: Message>(
        &self,
        slot: &Slot,
        version: &InFlight,
        route: Route,
        arrival: Arrival,
        started: Instant,
        message: &M,
    ) -> Result<M::Answer, RequestError> {
        let mut stopwatch = Stopwatch::new(&version.statistics, started);
        match self.answer(slot, version, route, arrival, &mut stopwatch, message).await {
            Ok((answer, rows)) => {
                slot.metrics().record_rows(rows);
                stopwatch.answered(rows, arrival.at.timestamp_millis());
                Ok(answer)
            }
            Err(error) => {
                stopwatch.failed(&error);
                Err(error)
            }
        }
    }

    async fn answer<M: Message>(
        &self,
        slot: &Slot,
        version: &InFlight,
        route: Route,
        arrival: Arrival,
        stopwatch: &mut Stopwatch<'_>,
        message: &M,
    ) -> Result<(M::Answer, usize), RequestError> {
        let _admitted = self.admit()?;
        let request = message.decode(&version.inputs, &version.outputs, self.limits.accepted())?;
        let Request { id: request_id, rows, outputs, parameters } = request;
        let Parameters { event_time, traffic, explain, outlier_scores } = parameters;
        let Rows { inputs: given, entity_keys } = rows;
        let event_times = event_times(version, &given, event_time, arrival.at);
        if traffic == Traffic::Live {
            check(event_times, version, &given, arrival.at, self.bounds.of(slot.model()))?;
        }
        if explain {
            must_be_few(given.num_rows(), self.limits.max_explained_rows)?;
        }
        let mut hits = Hits::default();
        let clipped = version.guardrails.check_inputs(&given, &mut hits)?;
        let rows = clipped.as_ref().unwrap_or(&given);
        stopwatch.end(Phase::Decode);
        let outlier_scores =
            if outlier_scores { Some(self.outlier_scores(version, &given, arrival.id).await?) } else { None };
        let Executed { prediction, queued, computed } = self.predict(version, rows, arrival.id).await?;
        stopwatch.add(Phase::Queue, queued);
        stopwatch.add(Phase::Compute, computed);
        let prediction = Arc::new(prediction);
        let explanation =
            if explain { Some(self.explain(version, rows, &prediction, arrival.id).await?) } else { None };
        stopwatch.end(Phase::Compute);
        let answered =
            version.guardrails.check_outputs(&prediction, &mut hits).map_err(|refused| refusal(version, refused))?;
        let answered = answered.map_or_else(|| Arc::clone(&prediction), Arc::new);
        let answer = Answer {
            id: arrival.id,
            request_id: &request_id,
            version,
            route,
            outputs,
            prediction: answered,
            explanation,
            outlier_scores,
            hits,
        };
        let encoded = message.encode(&answer);
        let Answer { prediction: answered, hits, .. } = answer;
        if hits.is_any() {
            version.statistics.guarded();
        }
        let count = rows.num_rows();
        slot.recent().offer(rows, arrival.at.timestamp_millis());
        if route == Route::Primary {
            self.shadows.offer(slot, rows, &prediction, computed);
        }
        if version.log.samples(arrival.id) {
            self.logs.answers.push(PredictionRecord {
                schema: Arc::clone(&version.log),
                prediction_id: arrival.id,
                answered_at: arrival.at + stopwatch.elapsed(),
                event_times,
                is_test: traffic == Traffic::Test,
                request_id,
                entity_keys,
                guardrails: hits.column(count),
                rows: given,
                prediction: answered,
            });
        } else {
            self.logs.answers.skip(&version.log, count);
        }
        stopwatch.end(Phase::Encode);
        Ok((encoded, count))
    }

    fn admit(&self) -> Result<SemaphorePermit<'_>, RequestError> {
        let limit = self.limits.max_concurrent_requests;
        self.admission.try_acquire().map_err(|_| RequestError::TooManyRequests { limit })
    }

    /// The slot of a model.
    pub(crate) fn slot(&self, model: &str) -> Result<Arc<Slot>, RequestError> {
        self.catalog.find(model).ok_or_else(|| {
            let served = self.models();
            let served = if served.is_empty() { "no model yet".to_owned() } else { served.join(", ") };
            RequestError::ModelNotServed { model: shortened(model), served }
        })
    }

    async fn predict(
        &self,
        version: &InFlight,
        rows: &RecordBatch,
        id: PredictionId,
    ) -> Result<Executed, RequestError> {
        let predicted = self.executor.predict(version.version(), rows).await;
        predicted.map_err(|failure| failed(version, id, failure))
    }

    async fn outlier_scores(
        &self,
        version: &InFlight,
        rows: &RecordBatch,
        id: PredictionId,
    ) -> Result<Vec<f64>, RequestError> {
        if version.reference.outliers.is_none() {
            let problem = "this version has no reference data to compare the rows with";
            return Err(InvalidInput::new("parameters[outlier_scores]", problem).into());
        }
        let scored = self.executor.outlier_scores(version.version(), rows).await;
        scored.map_err(|failure| failed(version, id, failure))
    }

    async fn explain(
        &self,
        version: &InFlight,
        rows: &RecordBatch,
        prediction: &Arc<Prediction>,
        id: PredictionId,
    ) -> Result<Explanation, RequestError> {
        let explained = self.executor.explain(version.version(), rows, prediction).await;
        explained.map_err(|failure| failed(version, id, failure))
    }
}

fn refusal(version: &LoadedVersion, refused: RefusedOutput) -> RequestError {
    RequestError::OutputRefused { model: version.name.clone(), version: version.version.version, refused }
}

fn must_be_few(rows: usize, most: usize) -> Result<(), InvalidInput> {
    if rows <= most {
        return Ok(());
    }
    let problem = format!("asks for {rows} rows, more than max_explained_rows = {most}: split the request");
    Err(InvalidInput::new("parameters[explain]", problem))
}

fn failed(version: &LoadedVersion, id: PredictionId, failure: execution::Failure) -> RequestError {
    let (model, number) = (version.name.clone(), version.version.version);
    match failure {
        execution::Failure::QueueFull(limit) => RequestError::QueueFull { model, limit },
        execution::Failure::Model(reason) => {
            tracing::error!(reason, %model, version = number, prediction_id = %id, "prediction failed");
            RequestError::PredictionFailed { prediction: id, model, version: number }
        }
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
        serving::{Progress, Versions, fixture},
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
            models: Vec::new(),
        };
        let log = Log::new(config.clone(), "replica-1".parse().expect("a name"), Uuid::nil());
        let limits = Limits { max_concurrent_requests, inline_rows: 1, ..Limits::for_tests() };
        let bounds = config::EventTimes {
            max_age: Duration::from_secs(60),
            max_ahead: Duration::ZERO,
            models: vec![config::ModelEventTimes {
                model: "flight-delay".parse().expect("a name"),
                max_age: Duration::ZERO,
                max_ahead: Duration::from_millis(7),
            }],
        };
        let executor = Arc::new(Executor::new(limits.clone()));
        let shadows = Arc::new(Shadows::new(Arc::clone(&executor)));
        let failures = FailureLog::new(&config, "replica-1".parse().expect("a name"), Uuid::nil());
        let logs = Logs { answers: Arc::new(log), failures: Arc::new(failures) };
        Engine::new(Arc::default(), logs, shadows, executor, limits, bounds)
    }

    /// A message that no protocol has encoded.
    struct Plain<F>(F);

    impl<F: Fn(&Outputs) -> Result<Request, InvalidInput>> Message for Plain<F> {
        /// Request id, version, rows and the number of outputs.
        type Answer = (String, String, usize, usize);

        fn routing_key(&self) -> Option<Cow<'_, [u8]>> {
            None
        }

        fn request_id(&self) -> &str {
            "mine"
        }

        fn decode(&self, _: &Inputs, outputs: &Outputs, _: Accepted) -> Result<Request, InvalidInput> {
            self.0(outputs)
        }

        fn encode(&self, answer: &Answer<'_>) -> Self::Answer {
            assert_eq!(answer.version.report().in_flight, 1, "until it is answered");
            let (id, number) = (answer.request_id.to_owned(), answer.version.number.clone());
            (id, number, answer.prediction.rows, answer.outputs.len())
        }
    }

    fn serve(engine: &Engine, version: &Arc<LoadedVersion>) {
        engine.catalog.slot(&fixture::model()).serve(&Versions::only(version), &Progress::default());
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
    fn request(outputs: &Outputs, rows: usize) -> Request {
        let outputs = outputs.select([].into_iter()).expect("every output");
        Request {
            id: "mine".to_owned(),
            rows: Rows { inputs: fixture::rows(rows), entity_keys: None },
            outputs,
            parameters: Parameters { event_time: Some(7), ..Parameters::default() },
        }
    }

    #[tokio::test]
    async fn rows_are_predicted_counted_and_logged_without_a_protocol() {
        let engine = engine(8);
        let version = fixture::loaded(3);
        serve(&engine, &version);
        // One row is predicted inline, two rows on another thread.
        for rows in [1, 2] {
            let message = Plain(|outputs: &Outputs| Ok(request(outputs, rows)));
            let answer = engine.infer(TARGET, ARRIVAL, &message).await.expect("answered");
            assert_eq!(answer, ("mine".to_owned(), "3".to_owned(), rows, 2));
        }
        let recent = engine.slot(TARGET.model).expect("served").recent().requests();
        assert_eq!(
            recent.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(),
            [1],
            "the other one came just after it"
        );
        let report = version.report();
        assert_eq!((report.answered, report.failed, report.in_flight), (2, 0, 0));
        assert_eq!(engine.logs.answers.buffered_rows(), 3);
        let reading = version.statistics.read();
        assert_eq!((reading.rows, reading.executions), (3, 2));
    }

    #[tokio::test]
    async fn the_event_time_of_a_live_request_is_near_its_arrival() {
        let engine = engine(8);
        let version = fixture::loaded(3);
        serve(&engine, &version);
        for (event_time, traffic, is_answered) in [
            (None, Traffic::Live, true),
            (Some(7), Traffic::Live, true),
            (Some(8), Traffic::Live, false),
            (Some(-1), Traffic::Live, false),
            (Some(i64::MIN), Traffic::Replay, true),
            (Some(i64::MAX), Traffic::Test, true),
        ] {
            let parameters = Parameters { event_time, traffic, ..Parameters::default() };
            let request = |outputs: &Outputs| Ok(Request { parameters, ..request(outputs, 1) });
            let outcome = engine.infer(TARGET, ARRIVAL, &Plain(request)).await;
            assert_eq!(outcome.is_ok(), is_answered, "{event_time:?}, {traffic}");
            if let Err(refused) = outcome {
                assert!(refused.to_string().starts_with("parameters[event_time]: is 19"), "{refused}");
            }
        }
        assert_eq!((version.report().failed, engine.logs.answers.buffered_rows()), (0, 4));
    }

    #[tokio::test]
    async fn a_refused_request_changes_nothing_and_a_failed_one_counts_as_failed() {
        let engine = engine(8);
        let version = fixture::loaded(3);
        serve(&engine, &version);
        let empty = Plain(|_: &Outputs| Err(InvalidInput::new("inputs", "is empty")));
        let refused = engine.infer(TARGET, ARRIVAL, &empty).await;
        assert!(matches!(refused, Err(RequestError::InvalidInput(_))));
        assert_eq!((version.report().failed, engine.logs.answers.buffered_rows()), (0, 0));

        let broken = |outputs: &Outputs| {
            let inputs = RecordBatch::new_empty(Arc::new(Schema::empty()));
            Ok(Request { rows: Rows { inputs, entity_keys: None }, ..request(outputs, 1) })
        };
        let failed = engine.infer(TARGET, ARRIVAL, &Plain(broken)).await.expect_err("the model needs its input");
        assert!(matches!(failed, RequestError::PredictionFailed { version: 3, .. }), "{failed}");
        let report = version.report();
        assert_eq!((report.answered, report.failed, report.in_flight), (0, 1, 0));
        assert_eq!(engine.logs.answers.buffered_rows(), 0);
    }

    #[tokio::test]
    async fn a_request_for_an_unknown_model_is_refused_before_it_is_decoded() {
        let target = Target { model: "weather", version: "" };
        let undecoded = Plain(|_: &Outputs| unreachable!("no version"));
        let refused = engine(1).infer(target, ARRIVAL, &undecoded).await.expect_err("refused");
        assert_eq!(refused.to_string(), "model \"weather\" is not served by this replica: it serves no model yet");
    }
}
