//! Replays a table as live traffic: each row is a request, in the order and at the pace of event time; outcomes follow after a delay.
//!
//! A request is sent once. Failed requests are counted and not retried, so that the count is that of a client without retries.

mod outcomes;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use chrono::{DateTime, Utc};
use rekindle_client::{
    Inference, Monitor,
    inference::{Elements, InferRequest, InferResponse},
};
use rekindle_dataset::Table;
use rekindle_domain::{ModelName, PredictionId, Traffic};
use tokio::{
    sync::Semaphore,
    task::{JoinError, JoinSet},
    time::sleep_until,
};

use self::outcomes::{OutcomeReporter, Reported};
use super::{encode::RowEncoder, failures::Failures};

/// Maximum number of requests in flight, over all replicas.
const MAX_IN_FLIGHT: usize = 64;
/// Interval, in wall time, at which responses are collected, due outcomes are reported and progress is shown.
const TICK: Duration = Duration::from_millis(50);

/// What to replay, where to, and how fast.
#[derive(Debug)]
pub(crate) struct Options {
    pub model: ModelName,
    /// The rows, sorted by `time_column` if there is one.
    pub table: Table,
    pub time_column: Option<String>,
    /// Requests go to them in turn.
    pub replicas: Vec<Inference>,
    /// Rows sent per second; greater than 0.
    pub rate: f64,
    /// `None` reports no outcomes.
    pub outcomes: Option<Outcomes>,
}

/// The outcomes to report.
#[derive(Debug, Clone)]
pub(crate) struct Outcomes {
    /// The column that holds the labels.
    pub target: String,
    /// The delay of a label after its row, in event time.
    pub delay: Duration,
    pub monitor: Monitor,
}

/// The progress of a replay.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Progress {
    pub sent: usize,
    /// Event time of the last row sent.
    pub event_time: Option<DateTime<Utc>>,
}

/// The result of a replay.
#[derive(Debug, Default)]
pub(crate) struct Replay {
    pub requests: u64,
    /// Requests without an answer, and rows that could not be sent.
    pub failures: Failures,
    pub rows: u64,
    pub outcomes: Reported,
    pub seconds: f64,
    /// By row; `None` if the request failed.
    pub answers: Vec<Option<Answer>>,
}

/// The answer to one row.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub prediction: PredictionId,
    pub version: u32,
    /// Elements of the output `probability`, `probabilities` or `prediction`.
    pub output: Vec<f32>,
}

/// Replays the table. Failed requests and rows that cannot be sent are part of the result. Fails if the replay cannot start, or outcomes
/// are not accepted.
pub(crate) async fn replay(options: Options, mut observe: impl FnMut(Progress)) -> Result<Replay> {
    ensure!(options.rate > 0.0, "the rate is {}: expected more than 0 rows per second", options.rate);
    let first = options.replicas.first().context("no replica to send requests to")?;
    let metadata = first.model_metadata(options.model.as_str()).await?;
    let encoder = RowEncoder::new(&metadata, &options.table, options.time_column.as_deref())?;
    let mut reporter = match &options.outcomes {
        Some(outcomes) => Some(OutcomeReporter::new(&options, outcomes, &metadata)?),
        None => None,
    };
    let mut run = Run::new(&options)?;
    let mut pace = Pace::new(options.rate);
    for row in 0..options.table.rows() {
        while let Wake::Tick = pace.next(row).await {
            run.collect();
            observe(run.progress(row));
            if let Some(reporter) = &mut reporter {
                reporter.report_due(&run, run.time(row))?;
            }
        }
        match encoder.request(row, Traffic::Replay) {
            Ok(request) => run.send(row, &options.replicas[row % options.replicas.len()], request).await?,
            Err(error) => run.skip(row, &error),
        }
    }
    run.collect_all().await;
    observe(run.progress(options.table.rows().saturating_sub(1)));
    let mut result = run.into_result(pace.began.elapsed());
    if let Some(reporter) = reporter {
        result.outcomes = reporter.finish(&result.answers).await?;
    }
    Ok(result)
}

/// When rows are due, and the ticks between them.
struct Pace {
    began: Instant,
    rate: f64,
    next_tick: Instant,
}

enum Wake {
    /// The row is due.
    Due,
    /// A tick has passed.
    Tick,
}

impl Pace {
    fn new(rate: f64) -> Self {
        let began = Instant::now();
        Self { began, rate, next_tick: began + TICK }
    }

    async fn next(&mut self, row: usize) -> Wake {
        let due = self.began + Duration::from_secs_f64(row as f64 / self.rate);
        loop {
            let now = Instant::now();
            if now >= self.next_tick {
                self.next_tick = now + TICK;
                return Wake::Tick;
            }
            if now >= due {
                return Wake::Due;
            }
            sleep_until(due.min(self.next_tick).into()).await;
        }
    }
}

impl Answer {
    fn of(response: &InferResponse) -> Result<Self> {
        const SCORES: [&str; 3] = ["probability", "probabilities", "prediction"];
        let output = response.outputs.iter().find(|output| SCORES.contains(&output.name.as_str()));
        let Some(Elements::Fp32(scores)) = output.map(|output| &output.elements) else {
            anyhow::bail!("the response has no FP32 output probability, probabilities or prediction");
        };
        let version =
            response.version.parse().with_context(|| format!("invalid model version {:?}", response.version))?;
        Ok(Self { prediction: response.prediction()?, version, output: scores.clone() })
    }
}

#[derive(Debug, Clone)]
enum Row {
    Waiting,
    Failed,
    Answered(Answer),
}

type Response = (usize, Result<Answer>);

/// The state of each row, and the requests in flight.
struct Run {
    times: Option<Vec<i64>>,
    rows: Vec<Row>,
    in_flight: JoinSet<Response>,
    permits: Arc<Semaphore>,
    sent: usize,
    failures: Failures,
}

impl Run {
    fn new(options: &Options) -> Result<Self> {
        let times = options.time_column.as_deref().map(|column| options.table.times(column)).transpose()?;
        Ok(Self {
            times: times.map(<[i64]>::to_vec),
            rows: vec![Row::Waiting; options.table.rows()],
            in_flight: JoinSet::new(),
            permits: Arc::new(Semaphore::new(MAX_IN_FLIGHT)),
            sent: 0,
            failures: Failures::default(),
        })
    }

    /// Event time of a row, in milliseconds since 1970-01-01 UTC.
    fn time(&self, row: usize) -> Option<i64> {
        self.times.as_ref().and_then(|times| times.get(row)).copied()
    }

    fn progress(&self, row: usize) -> Progress {
        Progress { sent: self.sent, event_time: self.time(row).and_then(DateTime::from_timestamp_millis) }
    }

    /// Sends a request, once fewer than the maximum are in flight.
    async fn send(&mut self, row: usize, replica: &Inference, request: InferRequest) -> Result<()> {
        let permit = Arc::clone(&self.permits).acquire_owned().await.context("the semaphore is closed")?;
        let replica = replica.clone();
        self.in_flight.spawn(async move {
            let response = replica.infer(request).await;
            drop(permit);
            (row, response.map_err(anyhow::Error::from).and_then(|response| Answer::of(&response)))
        });
        self.sent = row + 1;
        Ok(())
    }

    /// Collects the responses that have arrived.
    fn collect(&mut self) {
        while let Some(done) = self.in_flight.try_join_next() {
            self.settle(done);
        }
    }

    /// Collects every response.
    async fn collect_all(&mut self) {
        while let Some(done) = self.in_flight.join_next().await {
            self.settle(done);
        }
    }

    fn settle(&mut self, done: Result<Response, JoinError>) {
        match done {
            Ok((row, Ok(answer))) => self.rows[row] = Row::Answered(answer),
            Ok((row, Err(error))) => self.fail(row, &error),
            // No request is aborted.
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    /// Continues after a row that cannot be sent.
    fn skip(&mut self, row: usize, error: &anyhow::Error) {
        self.sent = row + 1;
        self.fail(row, error);
    }

    fn fail(&mut self, row: usize, error: &anyhow::Error) {
        self.rows[row] = Row::Failed;
        self.failures.add(row, error);
    }

    fn into_result(self, elapsed: Duration) -> Replay {
        let answer = |row| if let Row::Answered(answer) = row { Some(answer) } else { None };
        Replay {
            requests: self.sent as u64,
            failures: self.failures,
            rows: self.sent as u64,
            outcomes: Reported::default(),
            seconds: elapsed.as_secs_f64(),
            answers: self.rows.into_iter().map(answer).collect(),
        }
    }
}
