//! Supervision of the thread that works on a run: its lease is renewed, its metrics are logged, and it is stopped when a caller has ended
//! the run or this trainer is shutting down.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use chrono::Utc;
use rekindle_domain::{job::Job, run::Metric};
use rekindle_service::{Fault as _, chain};
use rekindle_training::Trial;
use tokio::{
    sync::{mpsc, oneshot},
    time::MissedTickBehavior,
};
use tokio_util::sync::CancellationToken;

use crate::{Error, registry::Registry, thread};

/// Sets of points and trials that are queued before the thread blocks.
const NOTES_WAITING: usize = 256;

/// Values of metrics at one step.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Points {
    pub step: i64,
    pub values: BTreeMap<String, f64>,
}

/// What the thread reports.
#[derive(Debug)]
enum Note {
    Points(Points),
    Trial(Box<Trial>),
}

/// The connection of the thread to its supervisor.
#[derive(Debug)]
pub(crate) struct Link {
    notes: mpsc::Sender<Note>,
    stop: Arc<AtomicBool>,
}

impl Link {
    /// Queues metrics. Blocks while the queue is full.
    pub(crate) fn log(&self, points: Points) {
        self.send(Note::Points(points));
    }

    /// Queues the nested run of a trial. Blocks while the queue is full.
    pub(crate) fn record(&self, trial: &Trial) {
        self.send(Note::Trial(Box::new(trial.clone())));
    }

    fn send(&self, note: Note) {
        // The receiver is gone once the job was dropped; the result is then discarded too.
        let _ = self.notes.blocking_send(note);
    }

    /// Whether the work should stop.
    pub(crate) fn should_stop(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.notes.is_closed()
    }
}

/// The job whose thread is supervised.
pub(crate) struct Watch<'a> {
    pub registry: &'a Registry,
    pub job: &'a Job,
    pub report_every: Duration,
    pub stopping: &'a CancellationToken,
}

impl Watch<'_> {
    /// Runs `work` on a thread of low priority. Its metrics are logged before this returns.
    pub(crate) async fn over<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Link) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (sender, notes) = mpsc::channel(NOTES_WAITING);
        let stop = Arc::new(AtomicBool::new(false));
        let link = Link { notes: sender, stop: stop.clone() };
        let done = thread::spawn(format!("job {}", self.job.id), move || work(&link))?;
        let mut log = Log { watch: self, notes, unsent: Vec::new(), trials: VecDeque::new() };
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
                Some(note) = log.notes.recv() => log.take(note).await,
                () = self.stopping.cancelled(), if reason.is_none() => {
                    stop.now();
                    reason = Some(Error::Stopping);
                }
                _ = timer.tick(), if reason.is_none() => {
                    if let Err(error) = self.registry.report_running(self.job.id).await {
                        if matches!(error, Error::Killed) {
                            stop.now();
                            reason = Some(error);
                        } else {
                            // The lease outlasts several heartbeats.
                            tracing::warn!(run = %self.job.id, error = chain(&error), "heartbeat of the run failed");
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

/// Metrics and trials that are not logged yet.
struct Log<'a> {
    watch: &'a Watch<'a>,
    notes: mpsc::Receiver<Note>,
    /// Points that could not be sent yet; sent with the next ones.
    unsent: Vec<Metric>,
    /// Trials that could not be recorded yet.
    trials: VecDeque<Trial>,
}

impl Log<'_> {
    async fn take(&mut self, note: Note) {
        self.add(note);
        if let Err(error) = self.send().await {
            tracing::warn!(run = %self.watch.job.id, error = chain(&error), "logging metrics failed, retrying with the next points");
        }
    }

    fn add(&mut self, note: Note) {
        match note {
            Note::Points(points) => self.unsent.extend(metrics(points)),
            Note::Trial(trial) => self.trials.push_back(*trial),
        }
    }

    async fn send(&mut self) -> Result<(), Error> {
        if !self.unsent.is_empty() {
            self.watch.registry.log_metrics(self.watch.job.id, &self.unsent).await?;
            self.unsent.clear();
        }
        while let Some(trial) = self.trials.front() {
            match self.watch.registry.record_trial(self.watch.job, trial).await {
                Err(error) if error.is_transient() => return Err(error),
                // The result of the job does not depend on the records of its trials.
                Err(error) => {
                    let (run, number) = (self.watch.job.id, trial.number);
                    tracing::warn!(%run, number, error = chain(&error), "the run of a trial is not recorded");
                }
                Ok(()) => {}
            }
            self.trials.pop_front();
        }
        Ok(())
    }

    /// Sends what remains.
    async fn finish(mut self) -> Result<(), Error> {
        while let Ok(note) = self.notes.try_recv() {
            self.add(note);
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
