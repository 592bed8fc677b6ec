//! Supervision of the thread that works on a run: its lease is renewed, its metrics are logged, its checkpoints are stored, and it is stopped when a
//! caller has ended the run or this trainer is shutting down.

use std::{
    cell::Cell,
    collections::{BTreeMap, VecDeque},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use futures::future::{Fuse, FusedFuture as _, FutureExt as _};
use rekindle_artifacts::Artifacts;
use rekindle_domain::{
    job::{Job, Work},
    run::{Metric, Run, RunProgress},
};
use rekindle_service::{Fault as _, chain};
use rekindle_training::{Checkpoint, Epoch, NetworkInTraining, Progress, Supervisor, Trial};
use tokio::{
    sync::{mpsc, oneshot},
    time::MissedTickBehavior,
};
use tokio_util::sync::CancellationToken;

use crate::{Error, build_id, job::epoch_points, registry::Registry, thread};

/// Time between two reports of the progress.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);
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
    Checkpoint(Bytes),
    Progress(RunProgress),
}

/// The connection of the thread to its supervisor.
#[derive(Debug)]
pub(crate) struct Link {
    notes: mpsc::Sender<Note>,
    stop: Arc<AtomicBool>,
    began: Instant,
    checkpoint_every: Duration,
    /// When the last checkpoint was taken.
    saved: Cell<Instant>,
    stage: Cell<Stage>,
    /// Set while a checkpoint waits to be stored, or is: the next one is taken after it.
    is_saving: Arc<AtomicBool>,
}

/// The network in training, and when its first epoch in this process had ended.
#[derive(Debug, Clone, Copy)]
struct Stage {
    network: NetworkInTraining,
    since: Instant,
    epochs: u32,
}

impl Stage {
    /// The time of the epochs that are left at most, at the speed of those since the first one.
    fn remaining(&self, progress: Progress) -> Option<Duration> {
        let measured = progress.epochs.checked_sub(self.epochs).filter(|epochs| *epochs > 0)?;
        let left = progress.of.saturating_sub(progress.epochs);
        Some(self.since.elapsed() / measured * left)
    }
}

impl Link {
    /// Queues metrics. Blocks while the queue is full.
    pub(crate) fn log(&self, points: Points) {
        self.send(Note::Points(points));
    }

    fn send(&self, note: Note) {
        // The receiver is gone once the job was dropped; the result is then discarded too.
        let _ = self.notes.blocking_send(note);
    }
}

impl Supervisor for Link {
    fn should_stop(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.notes.is_closed()
    }

    fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    fn epoch(&self, epoch: &Epoch) {
        self.log(epoch_points(epoch));
    }

    fn progress(&self, progress: Progress) {
        let mut stage = self.stage.get();
        if stage.network != progress.network || progress.epochs < stage.epochs {
            stage = Stage { network: progress.network, since: Instant::now(), epochs: progress.epochs };
            self.stage.set(stage);
        }
        self.send(Note::Progress(RunProgress {
            stage: match progress.network {
                NetworkInTraining::Validated => "early stopping".to_owned(),
                NetworkInTraining::Trial { number, of } => format!("trial {number} of at most {of}"),
                NetworkInTraining::Served => "training on all rows".to_owned(),
            },
            completed: progress.epochs.into(),
            total: progress.of.into(),
            unit: "epochs".to_owned(),
            remaining: stage.remaining(progress),
        }));
    }

    /// Records the trial as a nested run, and its loss among the metrics.
    fn trial(&self, trial: &Trial) {
        let loss = trial.result.as_ref().map(|loss| ("trial.loss".to_owned(), *loss));
        self.log(Points { step: trial.number.into(), values: loss.into_iter().collect() });
        self.send(Note::Trial(Box::new(trial.clone())));
    }

    fn wants_checkpoint(&self) -> bool {
        self.saved.get().elapsed() >= self.checkpoint_every && !self.is_saving.load(Ordering::Relaxed)
    }

    fn save(&self, checkpoint: Checkpoint) {
        self.saved.set(Instant::now());
        match checkpoint.into_bytes(build_id::get()) {
            Ok(bytes) => {
                self.is_saving.store(true, Ordering::Relaxed);
                self.send(Note::Checkpoint(bytes));
            }
            Err(error) => tracing::warn!(error = chain(&error), "a checkpoint cannot be taken"),
        }
    }
}

/// The job whose thread is supervised.
pub(crate) struct Watch<'a> {
    pub registry: &'a Registry,
    pub job: &'a Job,
    pub artifacts: &'a Artifacts,
    pub report_every: Duration,
    pub checkpoint_every: Duration,
    pub stopping: &'a CancellationToken,
    /// When the run fails.
    pub deadline: Option<Deadline>,
}

/// When a run fails because it has taken too long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    at: DateTime<Utc>,
    limit: Duration,
}

impl Deadline {
    /// The deadline of a run: its first worker has started it.
    pub(crate) fn of(work: &Work, run: &Run) -> Option<Self> {
        let Work::Train(train) = work else { return None };
        let limit = train.time_limit?;
        let started = run.started_at.unwrap_or_else(Utc::now);
        Some(Self { at: started.checked_add_signed(TimeDelta::from_std(limit).ok()?)?, limit })
    }

    pub(crate) fn is_over(&self) -> bool {
        self.left().is_zero()
    }

    fn left(&self) -> Duration {
        (self.at - Utc::now()).to_std().unwrap_or_default()
    }
}

impl From<Deadline> for Error {
    fn from(deadline: Deadline) -> Self {
        Self::TimeLimit(deadline.limit)
    }
}

/// Waits until a deadline; forever without one.
async fn reached(deadline: Option<Deadline>) -> Error {
    match deadline {
        Some(deadline) => {
            tokio::time::sleep(deadline.left()).await;
            deadline.into()
        }
        None => std::future::pending().await,
    }
}

impl Watch<'_> {
    /// The result of `work`, while the lease of the run is renewed; an error as soon as the run is to be stopped.
    pub(crate) async fn beside<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let mut timer = tokio::time::interval(self.report_every);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut work, mut deadline) = (pin!(work), pin!(reached(self.deadline)));
        loop {
            tokio::select! {
                result = &mut work => return result,
                over = &mut deadline => return Err(over),
                () = self.stopping.cancelled() => return Err(Error::Stopping),
                _ = timer.tick() => self.renew(None).await?,
            }
        }
    }

    /// Renews the lease of the run. Only that a caller has ended it is an error: the lease outlasts several heartbeats.
    async fn renew(&self, progress: Option<RunProgress>) -> Result<(), Error> {
        match self.registry.report_progress(self.job.id, progress).await {
            Err(error @ Error::Killed) => Err(error),
            Err(error) => {
                tracing::warn!(run = %self.job.id, error = chain(&error), "heartbeat of the run failed");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Runs `work` on a thread of low priority. Its metrics are logged before this returns.
    pub(crate) async fn over<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Link) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (sender, notes) = mpsc::channel(NOTES_WAITING);
        let stop = Arc::new(AtomicBool::new(false));
        let is_saving = Arc::new(AtomicBool::new(false));
        let now = Instant::now();
        let link = Link {
            notes: sender,
            stop: stop.clone(),
            began: now,
            checkpoint_every: self.checkpoint_every,
            saved: Cell::new(now),
            stage: Cell::new(Stage { network: NetworkInTraining::Validated, since: now, epochs: u32::MAX }),
            is_saving: is_saving.clone(),
        };
        let done = thread::spawn(format!("job {}", self.job.id), move || work(&link))?;
        let mut log = Log {
            watch: self,
            notes,
            unsent: Vec::new(),
            trials: VecDeque::new(),
            checkpoint: None,
            is_saving,
            progress: None,
        };
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
        let mut reported: Option<Instant> = None;
        let mut timer = tokio::time::interval(self.report_every);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut reason = None;
        // Renewal of the lease does not wait for it.
        let mut saving = pin!(Fuse::terminated());
        let mut deadline = pin!(reached(self.deadline));
        let mut ended = None;
        loop {
            // A checkpoint that is being stored would be named after the run has ended otherwise.
            if saving.is_terminated()
                && let Some(result) = ended.take()
            {
                return Ok((result, reason));
            }
            tokio::select! {
                result = &mut done, if ended.is_none() => {
                    ended = Some(result.map_err(|_| Error::Thread("it panicked".to_owned()))?);
                }
                Some(note) = log.notes.recv() => {
                    log.take(note).await;
                    if ended.is_none() && saving.is_terminated() && let Some(checkpoint) = log.checkpoint_to_save() {
                        saving.set(self.keep(checkpoint).fuse());
                    }
                }
                () = &mut saving, if !saving.is_terminated() => log.is_saving.store(false, Ordering::Relaxed),
                over = &mut deadline, if reason.is_none() && ended.is_none() => {
                    stop.now();
                    reason = Some(over);
                }
                () = self.stopping.cancelled(), if reason.is_none() && ended.is_none() => {
                    stop.now();
                    reason = Some(Error::Stopping);
                }
                _ = timer.tick(), if reason.is_none() => {
                    // A report of the progress writes the run.
                    let is_due = reported.is_none_or(|reported| reported.elapsed() >= PROGRESS_EVERY);
                    let progress = if is_due { log.progress.take() } else { None };
                    if progress.is_some() {
                        reported = Some(Instant::now());
                    }
                    if let Err(killed) = self.renew(progress).await {
                        stop.now();
                        reason = Some(killed);
                    }
                }
            }
        }
    }
}

impl Watch<'_> {
    /// Stores a checkpoint, from which another trainer continues if this one is lost.
    async fn keep(&self, checkpoint: Bytes) {
        if let Err(error) = self.store(checkpoint).await {
            tracing::warn!(run = %self.job.id, error = chain(&error), "storing a checkpoint failed, retrying with the next one");
        }
    }

    async fn store(&self, checkpoint: Bytes) -> Result<(), Error> {
        let digest = self.artifacts.put(checkpoint).await?;
        self.registry.set_tag(self.job.id, Run::CHECKPOINT, digest.to_string()).await
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
    /// The latest checkpoint, which is not stored yet.
    checkpoint: Option<Bytes>,
    is_saving: Arc<AtomicBool>,
    /// The latest progress, which is not reported yet.
    progress: Option<RunProgress>,
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
            Note::Checkpoint(checkpoint) => self.checkpoint = Some(checkpoint),
            Note::Progress(progress) => self.progress = Some(progress),
        }
    }

    /// The checkpoint, once everything that happened before it is logged: a resumed training does not repeat it.
    fn checkpoint_to_save(&mut self) -> Option<Bytes> {
        if self.unsent.is_empty() && self.trials.is_empty() { self.checkpoint.take() } else { None }
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
