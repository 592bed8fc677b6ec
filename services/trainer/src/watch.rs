//! Watching over a thread that works on a run: its lease is renewed, its metrics are logged, and it is told to stop when a
//! caller has ended the run or this trainer is shutting down.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use chrono::Utc;
use rekindle_domain::RunId;
use rekindle_proto::{registry as wire, time};
use tokio::{
    sync::{mpsc, oneshot},
    time::MissedTickBehavior,
};
use tokio_util::sync::CancellationToken;

use crate::{Error, registry::Registry, thread};

/// Sets of points that may wait to be logged before the thread waits.
const POINTS_WAITING: usize = 256;

/// Values of metrics at one step.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Points {
    pub step: i64,
    pub values: BTreeMap<String, f64>,
}

/// What the thread has of the outside.
#[derive(Debug)]
pub(crate) struct Link {
    points: mpsc::Sender<Points>,
    stop: Arc<AtomicBool>,
}

impl Link {
    /// Hands over metrics. Waits where many are waiting to be logged.
    pub(crate) fn log(&self, points: Points) {
        // Nobody listens any more once the job was dropped; then the stop flag is of no use either, and the result is.
        let _ = self.points.blocking_send(points);
    }

    /// Whether the work should end here.
    pub(crate) fn should_stop(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.points.is_closed()
    }
}

/// Whose work is watched.
pub(crate) struct Watch<'a> {
    pub registry: &'a Registry,
    pub run: RunId,
    pub report_every: Duration,
    pub stopping: &'a CancellationToken,
}

impl Watch<'_> {
    /// Carries out `work` on a thread of low priority. Metrics that it hands over are logged before this returns.
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

    /// The thread's result, and why it was told to stop, if it was.
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
                            // The lease is longer than a few reports.
                            tracing::warn!(run = %self.run, error = error.chain(), "run could not be reported on");
                        }
                    }
                }
            }
        }
    }
}

/// Tells the thread to stop, also when the watch itself is dropped.
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

/// Metrics on their way to the registry.
struct Log<'a> {
    watch: &'a Watch<'a>,
    points: mpsc::Receiver<Points>,
    /// What could not be sent yet: goes along with what comes next.
    unsent: Vec<wire::Metric>,
}

impl Log<'_> {
    async fn take(&mut self, points: Points) {
        self.add(points);
        if let Err(error) = self.send().await {
            tracing::warn!(run = %self.watch.run, error = error.chain(), "metrics will be logged later");
        }
    }

    fn add(&mut self, points: Points) {
        self.unsent.extend(wire_points(points));
    }

    async fn send(&mut self) -> Result<(), Error> {
        if !self.unsent.is_empty() {
            self.watch.registry.log_metrics(self.watch.run, self.unsent.clone()).await?;
            self.unsent.clear();
        }
        Ok(())
    }

    /// Sends all that is left.
    async fn finish(mut self) -> Result<(), Error> {
        while let Ok(points) = self.points.try_recv() {
            self.add(points);
        }
        self.send().await
    }
}

/// Metrics as the registry takes them. A value that is not finite has no place in a history, and is left out.
pub(crate) fn wire_points(points: Points) -> impl Iterator<Item = wire::Metric> {
    let (step, now) = (points.step, time::to_wire(Utc::now()));
    let finite = points.values.into_iter().filter(|(_, value)| value.is_finite());
    finite.map(move |(name, value)| wire::Metric { name, value, step, time: Some(now) })
}
