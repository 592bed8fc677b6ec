//! Executes models: few cheap rows on the thread of the request, all others in batches on threads of their own.
//!
//! A batch is what is queued when a place becomes free, so a request never waits for others to arrive. It has at most `max_batch_rows`
//! rows, and no more than can be predicted within `max_batch_latency` by what earlier rows took. Requests of a caller that has gone are
//! not executed. If a batch fails, its requests are executed one by one, so that only those fail that would have failed alone.

mod queue;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use arrow::{array::RecordBatch, compute::concat_batches};
use rekindle_bundle::{Explanation, Prediction};
use tokio::{
    sync::{Semaphore, oneshot},
    task,
};

pub(crate) use self::queue::Queue;
use self::queue::{Job, Push};
use crate::{config::Limits, serving::LoadedVersion};

/// What a request may cost on its own thread, by what earlier rows took.
const INLINE: Duration = Duration::from_micros(500);

/// A prediction, and the time that it took.
#[derive(Debug)]
pub(crate) struct Executed {
    /// The prediction of the request's rows.
    pub(crate) prediction: Prediction,
    /// Waiting for a place.
    pub(crate) queued: Duration,
    /// Executing the batch.
    pub(crate) computed: Duration,
}

/// Why there is no prediction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// So many rows are queued for the version, which is the limit.
    QueueFull(usize),
    /// The model failed.
    Model(String),
}

/// Executes the models of one replica.
pub(crate) struct Executor {
    limits: Limits,
    /// One permit per batch that may be executed at once: as many as there are cores. Versions take turns.
    places: Semaphore,
    cores: usize,
}

/// What a row of a version costs, as a moving average.
#[derive(Debug, Default)]
pub(crate) struct Cost {
    nanos_per_row: AtomicU64,
}

impl Cost {
    /// Takes in an execution.
    pub(crate) fn record(&self, rows: usize, took: Duration) {
        let sample = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX) / (rows as u64).max(1);
        let average = match self.nanos_per_row.load(Relaxed) {
            0 => sample,
            // Of two executions at once one may be lost, which an average bears.
            earlier => earlier - earlier / 8 + sample / 8,
        };
        self.nanos_per_row.store(average.max(1), Relaxed);
    }

    /// What so many rows are expected to take.
    fn of(&self, rows: usize) -> Duration {
        Duration::from_nanos(self.nanos_per_row.load(Relaxed).saturating_mul(rows as u64))
    }

    /// How many rows are expected to take no longer than `latency`; at least 1.
    fn rows_within(&self, latency: Duration) -> usize {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        let rows = nanos / self.nanos_per_row.load(Relaxed).max(1);
        usize::try_from(rows).unwrap_or(usize::MAX).max(1)
    }
}

impl Executor {
    /// An executor with a place per core.
    pub(crate) fn new(limits: Limits) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, Into::into);
        Self { limits, places: Semaphore::new(cores), cores }
    }

    /// Predicts `rows` with `version`.
    pub(crate) async fn predict(
        self: &Arc<Self>,
        version: &Arc<LoadedVersion>,
        rows: &RecordBatch,
    ) -> Result<Executed, Failure> {
        let count = rows.num_rows();
        if count <= self.limits.inline_rows && version.cost.of(count) <= INLINE {
            let began = Instant::now();
            let prediction = guarded(version, rows).map_err(Failure::Model)?;
            return Ok(Executed { prediction, queued: Duration::ZERO, computed: began.elapsed() });
        }
        let (reply, answer) = oneshot::channel();
        let job = Job { rows: rows.clone(), reply, queued_at: Instant::now() };
        match version.queue.push(job, self.limits.max_queued_rows, self.cores) {
            Push::Full => return Err(Failure::QueueFull(self.limits.max_queued_rows)),
            Push::Queued => {}
            Push::NeedsWorker => drop(task::spawn(Arc::clone(self).drain(Arc::clone(version)))),
        }
        answer.await.unwrap_or_else(|_| Err(Failure::Model("its execution did not end".to_owned())))
    }

    /// Explains a prediction of `version` for `rows`.
    pub(crate) async fn explain(
        &self,
        version: &Arc<LoadedVersion>,
        rows: &RecordBatch,
        prediction: &Arc<Prediction>,
    ) -> Result<Explanation, Failure> {
        let (version, rows, prediction) = (Arc::clone(version), rows.clone(), Arc::clone(prediction));
        let explained = self.at_a_place(move || version.model.explain(&rows, &prediction)).await?;
        explained.map_err(|error| Failure::Model(error.to_string()))
    }

    /// How unlike the reference data of `version` each row is; nothing without such data.
    pub(crate) async fn outlier_scores(
        &self,
        version: &Arc<LoadedVersion>,
        rows: &RecordBatch,
    ) -> Result<Vec<f64>, Failure> {
        let (version, rows) = (Arc::clone(version), rows.clone());
        let scores = move || version.reference.outliers.as_ref().map(|outliers| outliers.scores(&rows));
        Ok(self.at_a_place(scores).await?.unwrap_or_default())
    }

    /// Runs `work` on another thread, once a place is free.
    async fn at_a_place<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
        let _place = self.places.acquire().await.expect("the semaphore is never closed");
        task::spawn_blocking(work).await.map_err(|_| Failure::Model("it panicked".to_owned()))
    }

    /// Executes what is queued for a version, batch by batch.
    async fn drain(self: Arc<Self>, version: Arc<LoadedVersion>) {
        loop {
            let _place = self.places.acquire().await.expect("the semaphore is never closed");
            let most = version.cost.rows_within(self.limits.max_batch_latency).min(self.limits.max_batch_rows);
            let Some(jobs) = version.queue.take(most) else { return };
            let running = Arc::clone(&version);
            if let Err(error) = task::spawn_blocking(move || execute(&running, jobs)).await {
                tracing::error!(%error, model = %version.name, "a batch ended early");
            }
        }
    }
}

/// Executes one batch and replies to its requests.
fn execute(version: &LoadedVersion, jobs: Vec<Job>) {
    let batches = jobs.iter().map(|job| &job.rows);
    let joined = match &*jobs {
        [job] => Ok(job.rows.clone()),
        [first, ..] => concat_batches(&first.rows.schema(), batches).map_err(|error| error.to_string()),
        [] => return,
    };
    let began = Instant::now();
    match joined.and_then(|joined| guarded(version, &joined)) {
        Ok(prediction) => {
            let mut at = 0;
            for Job { rows, reply, queued_at } in jobs {
                let prediction = prediction.slice(at, rows.num_rows());
                at += rows.num_rows();
                let executed = Executed { prediction, queued: began - queued_at, computed: began.elapsed() };
                // A caller that has gone needs no reply.
                let _ = reply.send(Ok(executed));
            }
        }
        Err(reason) if jobs.len() == 1 => {
            jobs.into_iter().for_each(|job| drop(job.reply.send(Err(Failure::Model(reason.clone())))));
        }
        Err(_) => jobs.into_iter().for_each(|job| execute(version, vec![job])),
    }
}

/// Predicts. A model that panics fails these rows and no others.
fn guarded(version: &LoadedVersion, rows: &RecordBatch) -> Result<Prediction, String> {
    let began = Instant::now();
    let outcome = catch_unwind(AssertUnwindSafe(|| version.model.predict(rows)));
    version.statistics.executed();
    version.cost.record(rows.num_rows(), began.elapsed());
    match outcome {
        Ok(Ok(prediction)) => Ok(prediction),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the model panicked".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::Float64Array;

    use super::*;
    use crate::serving::fixture;

    fn limits(max_queued_rows: usize) -> Limits {
        Limits { inline_rows: 0, max_batch_latency: Duration::from_secs(1), max_queued_rows, ..Limits::for_tests() }
    }

    #[tokio::test]
    async fn requests_that_queue_are_executed_together_and_answered_as_if_alone() {
        let (version, executor) = (fixture::loaded(1), Arc::new(Executor::new(limits(1_000))));
        let alone = version.model.predict(&fixture::rows(1)).expect("predicts");
        // Every place is taken, so that all requests are queued first.
        let places = executor.places.acquire_many(u32::try_from(executor.cores).expect("few")).await.expect("open");
        let requests: Vec<_> = (0..40)
            .map(|_| {
                let (version, executor) = (Arc::clone(&version), Arc::clone(&executor));
                task::spawn(async move { executor.predict(&version, &fixture::rows(1)).await })
            })
            .collect();
        while version.queue.rows() < 40 {
            task::yield_now().await;
        }
        drop(places);
        for request in requests {
            let executed = request.await.expect("no panic").expect("predicted");
            assert_eq!(executed.prediction, alone);
        }
        let executions = version.statistics.read().executions;
        assert!(executions <= 2 * executor.cores as u64, "{executions} executions of 40 requests");
    }

    #[tokio::test]
    async fn a_request_whose_caller_has_gone_is_not_executed() {
        let (version, executor) = (fixture::loaded(1), Arc::new(Executor::new(limits(1_000))));
        let places = executor.places.acquire_many(u32::try_from(executor.cores).expect("few")).await.expect("open");
        let rows = fixture::rows(2);
        let gone = executor.predict(&version, &rows);
        assert!(futures::poll!(Box::pin(gone)).is_pending());
        drop(places);
        executor.predict(&version, &rows).await.expect("predicted");
        assert_eq!(version.statistics.read().executions, 1);
    }

    #[tokio::test]
    async fn a_request_that_fails_in_a_batch_fails_alone() {
        let version = fixture::loaded(1);
        let infinite = Arc::new(Float64Array::from(vec![f64::INFINITY]));
        let broken = RecordBatch::try_new(fixture::rows(1).schema(), vec![infinite]).expect("a batch");
        let (mut jobs, mut answers) = (Vec::new(), Vec::new());
        for rows in [fixture::rows(1), broken, fixture::rows(3)] {
            let (reply, answer) = oneshot::channel();
            jobs.push(Job { rows, reply, queued_at: Instant::now() });
            answers.push(answer);
        }
        execute(&version, jobs);
        let mut rows = Vec::new();
        for answer in answers {
            rows.push(answer.await.expect("a reply").map(|executed| executed.prediction.rows).ok());
        }
        assert_eq!(rows, [Some(1), None, Some(3)]);
    }

    #[tokio::test]
    async fn a_full_queue_refuses_at_once() {
        let (version, executor) = (fixture::loaded(1), Arc::new(Executor::new(limits(3))));
        let _places = executor.places.acquire_many(u32::try_from(executor.cores).expect("few")).await.expect("open");
        let rows = fixture::rows(2);
        let mut first = Box::pin(executor.predict(&version, &rows));
        assert!(futures::poll!(&mut first).is_pending());
        let refused = executor.predict(&version, &rows).await.expect_err("two of three rows are queued");
        assert_eq!(refused, Failure::QueueFull(3));
    }

    #[test]
    fn the_cost_of_a_row_is_an_average_that_follows_its_samples() {
        let cost = Cost::default();
        assert_eq!(cost.of(10), Duration::ZERO, "nothing is known before the first execution");
        cost.record(10, Duration::from_micros(100));
        assert_eq!((cost.of(2), cost.rows_within(Duration::from_millis(1))), (Duration::from_micros(20), 100));
        (0..200).for_each(|_| cost.record(1, Duration::from_micros(1)));
        assert!(cost.of(1) < Duration::from_micros(2), "{cost:?}");
    }
}
