//! Supervision of the thread that works on a run: its lease is renewed, its metrics are logged, and it is stopped when a caller has ended
//! the run or this trainer is shutting down.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use chrono::Utc;
use rekindle_domain::{RunId, run::Metric};
use rekindle_service::chain;
use tokio::{
    sync::{mpsc, oneshot},
    time::MissedTickBehavior,
};
use tokio_util::sync::CancellationToken;

use crate::{Error, registry::Registry, thread};

/// Sets of points that are queued before the thread blocks.
const POINTS_WAITING: usize = 256;

/// Values of metrics at one step.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Points {
    pub step: i64,
    pub values: BTreeMap<String, f64>,
}

/// The connection of the thread to its supervisor.
#[derive(Debug)]
pub(crate) struct Link {
    points: mpsc::Sender<Points>,
    stop: Arc<AtomicBool>,
}

impl Link {
    /// Queues metrics. Blocks while the queue is full.
    pub(crate) fn log(&self, points: Points) {
        // The receiver is gone once the job was dropped; the result is then discarded too.
        let _ = self.points.blocking_send(points);
    }

    /// Whether the work should stop.
    pub(crate) fn should_stop(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.points.is_closed()
    }
}

/// The run whose thread is supervised.
pub(crate) struct Watch<'a> {
    pub registry: &'a Registry,
    pub run: RunId,
    pub report_every: Duration,
    pub stopping: &'a CancellationToken,
}

impl Watch<'_> {
    /// Runs `work` on a thread of low priority. Its metrics are logged before this returns.
    pub(crate) async fn over<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Link) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (sender, points) = mpsc::channel(POINTS_WAITING);
        let stop = Arc::new(AtomicBool::new(false));
        let link = Link { points: sender, stop: stop.clone() };
        let done = thread::spawn(format!("job {}", self.run), move || work(&link))?;
        let mut log = Log { watch: self, points, unsent: Vec::new() };
        let stopped = StopOnDrop(stop);
        let (result, reason) = self.until_done(done, &mut log, &stopped).await?;
        match reason {
            Some(reason) => Err(reason),
            None => {
                log.finish().await?;
                result
            }
        }
    }

    /// The result of the thread, and why it was stopped, if it was.
    async fn until_done<T>(
        &self,
        mut done: oneshot::Receiver<Result<T, Error>>,
        log: &mut Log<'_>,
        stop: &StopOnDrop,
    ) -> Result<(Result<T, Error>, Option<Error>), Error> {
        let mut timer = tokio::time::interval(self.report_every);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut reason = None;
        loop {
            tokio::select! {
                result = &mut done => {
                    let result = result.map_err(|_| Error::Thread("it panicked".to_owned()))?;
                    return Ok((result, reason));
                }
                Some(points) = log.points.recv() => log.take(points).await,
                () = self.stopping.cancelled(), if reason.is_none() => {
                    stop.now();
                    reason = Some(Error::Stopping);
                }
                _ = timer.tick(), if reason.is_none() => {
                    if let Err(error) = self.registry.report_running(self.run).await {
                        if matches!(error, Error::Killed) {
                            stop.now();
                            reason = Some(error);
                        } else {
                            // The lease outlasts several heartbeats.
                            tracing::warn!(run = %self.run, error = chain(&error), "heartbeat of the run failed");
                        }
                    }
                }
            }
        }
    }
}

/// Stops the thread, also when the supervision itself is dropped.
struct StopOnDrop(Arc<AtomicBool>);

impl StopOnDrop {
    fn now(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.now();
    }
}

/// Metrics that are not logged yet.
struct Log<'a> {
    watch: &'a Watch<'a>,
    points: mpsc::Receiver<Points>,
    /// Points that could not be sent yet; sent with the next ones.
    unsent: Vec<Metric>,
}

impl Log<'_> {
    async fn take(&mut self, points: Points) {
        self.add(points);
        if let Err(error) = self.send().await {
            tracing::warn!(run = %self.watch.run, error = chain(&error), "logging metrics failed, retrying with the next points");
        }
    }

    fn add(&mut self, points: Points) {
        self.unsent.extend(metrics(points));
    }

    async fn send(&mut self) -> Result<(), Error> {
        if !self.unsent.is_empty() {
            self.watch.registry.log_metrics(self.watch.run, &self.unsent).await?;
            self.unsent.clear();
        }
        Ok(())
    }

    /// Sends the remaining points.
    async fn finish(mut self) -> Result<(), Error> {
        while let Ok(points) = self.points.try_recv() {
            self.add(points);
        }
        self.send().await
    }
}

/// Points as the registry takes them. Values that are not finite are left out: a history has no place for them.
pub(crate) fn metrics(points: Points) -> impl Iterator<Item = Metric> {
    let (step, now) = (points.step, Utc::now());
    let finite = points.values.into_iter().filter(|(_, value)| value.is_finite());
    finite.map(move |(name, value)| Metric { name, value, step, time: Some(now) })
}
