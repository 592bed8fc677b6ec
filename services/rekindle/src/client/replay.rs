//! Replays a file as live traffic: each row becomes a request, in the order and at the pace of event time, and the truth follows after
//! a delay.
//!
//! A request is sent once: what fails is counted, never tried again, so that the count is what a user without retries would have
//! seen.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use arrow::{
    array::{Array, AsArray},
    datatypes::{DataType, Float64Type, Int64Type},
};
use chrono::{DateTime, Utc};
use rekindle_dataset::Table;
use rekindle_proto::{
    client::channel,
    inference::{
        ModelInferResponse, ModelMetadataRequest, ModelMetadataResponse,
        grpc_inference_service_client::GrpcInferenceServiceClient, infer_parameter::ParameterChoice,
    },
    monitor::{Outcome, ReportOutcomesRequest, monitor_client::MonitorClient, outcome::Truth},
};
use tokio::{sync::Semaphore, task::JoinSet, time::sleep_until};
use tonic::transport::Channel;

use super::encode::RowEncoder;

/// Requests in flight at most, over all replicas.
const IN_FLIGHT: usize = 64;
/// Outcomes in one report at most.
const OUTCOMES_PER_REPORT: usize = 1000;
/// How often, in wall time, pending outcomes and progress are looked at.
const TICK: Duration = Duration::from_millis(50);
/// A request without an answer after this long has failed.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// What to replay, where to, and how fast.
#[derive(Debug)]
pub(crate) struct Options {
    pub model: String,
    /// The rows; sorted by `time_column` if there is one.
    pub table: Table,
    pub time_column: Option<String>,
    /// `host:port` of each replica; requests go round them.
    pub replicas: Vec<String>,
    /// Rows sent per second.
    pub rate: f64,
    /// The truth to report, and how long after its row in event time; `None` reports none.
    pub outcomes: Option<Outcomes>,
}

/// Where the truth comes from and goes to.
#[derive(Debug, Clone)]
pub(crate) struct Outcomes {
    pub target: String,
    pub delay: Duration,
    pub monitor: Channel,
}

/// How far a replay has come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Progress {
    pub sent: usize,
    /// Time of the last row sent.
    pub event_time: Option<DateTime<Utc>>,
}

/// What came of a replay.
#[derive(Debug, Default)]
pub(crate) struct Replay {
    pub requests: u64,
    pub failed_requests: u64,
    pub rows: u64,
    pub outcomes: u64,
    pub seconds: f64,
    pub first_error: Option<String>,
    /// By row; `None` where the request failed.
    pub answers: Vec<Option<Answer>>,
}

/// The answer to one row.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub prediction_id: String,
    pub version: u32,
    /// Elements of the output `probability`, `probabilities` or `prediction`.
    pub output: Vec<f32>,
}

/// Replays the table. Fails only where it cannot begin, or where outcomes are refused; failed requests are part of the result.
pub(crate) async fn replay(options: Options, mut observe: impl FnMut(Progress)) -> Result<Replay> {
    let clients = connect(&options.replicas)?;
    let metadata = metadata(clients.first().context("there is no replica to send to")?.clone(), &options.model).await?;
    let encoder = RowEncoder::new(&metadata, &options.table, options.time_column.as_deref())?;
    let times =
        options.time_column.as_deref().map(|column| options.table.times(column)).transpose()?.map(<[i64]>::to_vec);
    let labels = match &options.outcomes {
        Some(outcomes) => Some(Labels::new(&options, outcomes, &metadata)?),
        None => None,
    };
    ensure!(options.rate > 0.0, "the rate must be above 0 rows a second");

    let mut run = Run { times, answered: vec![Row::Waiting; options.table.rows()], ..Run::default() };
    let mut labeller = labels.map(Labeller::new);
    let permits = Arc::new(Semaphore::new(IN_FLIGHT));
    let mut flying = JoinSet::new();
    let began = Instant::now();
    let mut next_tick = began + TICK;
    for row in 0..options.table.rows() {
        let due = began + Duration::from_secs_f64(row as f64 / options.rate);
        while Instant::now() < due || Instant::now() >= next_tick {
            if Instant::now() >= next_tick {
                next_tick = Instant::now() + TICK;
                run.collect(&mut flying);
                observe(run.progress(row));
                if let Some(labeller) = &mut labeller {
                    labeller.report_due(&run, run.time(row))?;
                }
            }
            sleep_until(due.min(next_tick).into()).await;
        }
        let request = encoder.request(row)?;
        let permit = permits.clone().acquire_owned().await.context("the semaphore is never closed")?;
        let mut client = clients[row % clients.len()].clone();
        flying.spawn(async move {
            let answer = client.model_infer(request).await.map_err(|status| status.to_string());
            drop(permit);
            (row, answer.and_then(|response| Answer::of(response.get_ref())))
        });
        run.sent = row + 1;
    }
    while !flying.is_empty() {
        run.collect_next(&mut flying).await;
    }
    observe(run.progress(options.table.rows().saturating_sub(1)));
    let mut result = run.into_result(began.elapsed());
    if let Some(labeller) = labeller {
        result.outcomes = labeller.finish(&result.answers).await?;
    }
    Ok(result)
}

fn connect(replicas: &[String]) -> Result<Vec<GrpcInferenceServiceClient<Channel>>> {
    let open =
        |address: &String| Ok(GrpcInferenceServiceClient::new(channel(&format!("http://{address}"), REQUEST_TIMEOUT)?));
    replicas.iter().map(open).collect()
}

/// The model's tensors, as a replica tells them.
pub(crate) async fn metadata(
    mut client: GrpcInferenceServiceClient<Channel>,
    model: &str,
) -> Result<ModelMetadataResponse> {
    let request = ModelMetadataRequest { name: model.to_owned(), version: String::new() };
    Ok(client.model_metadata(request).await.context("no replica tells the model's inputs")?.into_inner())
}

impl Answer {
    /// Reads what is needed of a response.
    pub(crate) fn of(response: &ModelInferResponse) -> Result<Self, String> {
        let text = |name: &str| match response.parameters.get(name).and_then(|p| p.parameter_choice.as_ref()) {
            Some(ParameterChoice::StringParam(text)) => Ok(text.clone()),
            _ => Err(format!("the answer has no parameter {name}")),
        };
        let wanted = ["probability", "probabilities", "prediction"];
        let place = response.outputs.iter().position(|output| wanted.contains(&output.name.as_str()));
        let raw =
            place.and_then(|place| response.raw_output_contents.get(place)).ok_or("the answer has no prediction")?;
        Ok(Self {
            prediction_id: text("prediction_id")?,
            version: response.model_version.parse().map_err(|_| "the answer's version is no number")?,
            output: raw.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
        })
    }
}

#[derive(Debug, Clone)]
enum Row {
    Waiting,
    Failed,
    Answered(Answer),
}

type Flight = (usize, Result<Answer, String>);

#[derive(Debug, Default)]
struct Run {
    times: Option<Vec<i64>>,
    answered: Vec<Row>,
    sent: usize,
    failed: u64,
    first_error: Option<String>,
}

impl Run {
    fn time(&self, row: usize) -> Option<i64> {
        self.times.as_ref().and_then(|times| times.get(row)).copied()
    }

    fn progress(&self, row: usize) -> Progress {
        Progress { sent: self.sent, event_time: self.time(row).and_then(DateTime::from_timestamp_millis) }
    }

    /// Takes in what has been answered so far.
    fn collect(&mut self, flying: &mut JoinSet<Flight>) {
        while let Some(done) = flying.try_join_next() {
            self.settle(done);
        }
    }

    async fn collect_next(&mut self, flying: &mut JoinSet<Flight>) {
        if let Some(done) = flying.join_next().await {
            self.settle(done);
        }
    }

    fn settle(&mut self, done: Result<Flight, tokio::task::JoinError>) {
        match done {
            Ok((row, Ok(answer))) => self.answered[row] = Row::Answered(answer),
            Ok((row, Err(error))) => {
                self.answered[row] = Row::Failed;
                self.fail(error);
            }
            Err(error) => self.fail(error.to_string()),
        }
    }

    fn fail(&mut self, error: String) {
        self.failed += 1;
        self.first_error.get_or_insert(error);
    }

    fn into_result(self, elapsed: Duration) -> Replay {
        let answer = |row| if let Row::Answered(answer) = row { Some(answer) } else { None };
        Replay {
            requests: self.sent as u64,
            failed_requests: self.failed,
            rows: self.sent as u64,
            outcomes: 0,
            seconds: elapsed.as_secs_f64(),
            first_error: self.first_error,
            answers: self.answered.into_iter().map(answer).collect(),
        }
    }
}

/// The truth of every row, ready to be told.
#[derive(Debug)]
struct Labels {
    model: String,
    truths: Vec<Option<Truth>>,
    delay_ms: i64,
    monitor: MonitorClient<Channel>,
}

impl Labels {
    fn new(options: &Options, outcomes: &Outcomes, metadata: &ModelMetadataResponse) -> Result<Self> {
        let numbers = metadata.outputs.iter().any(|output| output.name == "prediction");
        let column = options.table.column(&outcomes.target)?;
        let truths = (0..column.len()).map(|row| truth(column, row, numbers)).collect::<Result<_>>()?;
        Ok(Self {
            model: options.model.clone(),
            truths,
            delay_ms: i64::try_from(outcomes.delay.as_millis()).context("the delay is too long")?,
            monitor: MonitorClient::new(outcomes.monitor.clone()),
        })
    }
}

fn truth(column: &dyn Array, row: usize, numbers: bool) -> Result<Option<Truth>> {
    if column.is_null(row) {
        return Ok(None);
    }
    Ok(Some(match column.data_type() {
        #[expect(clippy::cast_precision_loss, reason = "targets beyond 2^53 are rounded, as they were for training")]
        DataType::Int64 if numbers => Truth::Number(column.as_primitive::<Int64Type>().value(row) as f64),
        DataType::Int64 => Truth::Label(column.as_primitive::<Int64Type>().value(row).to_string()),
        DataType::Float64 => Truth::Number(column.as_primitive::<Float64Type>().value(row)),
        DataType::Boolean => Truth::Label(column.as_boolean().value(row).to_string()),
        DataType::Utf8 => Truth::Label(column.as_string::<i32>().value(row).to_owned()),
        other => anyhow::bail!("the target holds {other}, which is neither a class nor a number"),
    }))
}

/// Tells the truth of rows in their order, once it is due.
#[derive(Debug)]
struct Labeller {
    labels: Labels,
    next: usize,
    reported: u64,
    reports: JoinSet<Result<u64, tonic::Status>>,
}

impl Labeller {
    fn new(labels: Labels) -> Self {
        Self { labels, next: 0, reported: 0, reports: JoinSet::new() }
    }

    /// Reports every row whose truth is due at `now` (event time) and whose answer has come.
    fn report_due(&mut self, run: &Run, now: Option<i64>) -> Result<()> {
        while let Some(done) = self.reports.try_join_next() {
            self.reported += done?.context("outcomes were not accepted")?;
        }
        let mut batch = Vec::new();
        while self.next < run.sent {
            let due = match (run.time(self.next), now) {
                (Some(time), Some(now)) => time.saturating_add(self.labels.delay_ms) <= now,
                _ => true,
            };
            match (&run.answered[self.next], due) {
                (Row::Waiting, _) | (_, false) => break,
                (Row::Failed, true) => {}
                (Row::Answered(answer), true) => batch.extend(self.outcome(self.next, answer)),
            }
            self.next += 1;
            if batch.len() == OUTCOMES_PER_REPORT {
                self.send(std::mem::take(&mut batch));
            }
        }
        self.send(batch);
        Ok(())
    }

    /// Reports all that is left, and waits until everything was accepted. Returns how many outcomes were, in all.
    async fn finish(mut self, answers: &[Option<Answer>]) -> Result<u64> {
        let rest: Vec<Outcome> = (self.next..answers.len())
            .filter_map(|row| answers[row].as_ref().and_then(|answer| self.outcome(row, answer)))
            .collect();
        for batch in rest.chunks(OUTCOMES_PER_REPORT) {
            self.send(batch.to_vec());
        }
        while let Some(done) = self.reports.join_next().await {
            self.reported += done?.context("outcomes were not accepted")?;
        }
        Ok(self.reported)
    }

    fn outcome(&self, row: usize, answer: &Answer) -> Option<Outcome> {
        let truth = self.labels.truths[row].clone()?;
        Some(Outcome { prediction_id: answer.prediction_id.clone(), row: 0, truth: Some(truth) })
    }

    fn send(&mut self, outcomes: Vec<Outcome>) {
        if outcomes.is_empty() {
            return;
        }
        let mut monitor = self.labels.monitor.clone();
        let request =
            ReportOutcomesRequest { model: self.labels.model.clone(), outcomes, idempotency_key: String::new() };
        self.reports.spawn(async move { Ok(monitor.report_outcomes(request).await?.into_inner().accepted) });
    }
}
