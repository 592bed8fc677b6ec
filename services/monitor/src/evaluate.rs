//! Evaluation: closes windows, compares them with the reference data, measures their quality once the labels are known, and checks outcomes
//! against the predictions.
//!
//! A reconciler in steps. One step closes one window of one model, measures the quality of one report, for the first time or again, or checks one chunk of outcomes:
//!
//! ```text
//! plan (what is due) -> read (rows of the window) -> compare (with the reference data) -> report (a value) -> commit (fenced)
//! ```
//!
//! Models that have changed since nothing was due, or whose outcomes are to be checked, take turns, one step each, so that the backlog of one delays no other, and shutdown waits for one step at most. Planning and
//! reporting are pure. Nothing is kept that cannot be recomputed from the index and the chunks: after a crash, or on another instance,
//! evaluation continues and reports the same.
//!
//! A model is evaluated by the instance that holds its lease; the lease's epoch is checked in the transaction that writes its reports.

mod closing;
pub(crate) mod contents;
pub(crate) mod due;
mod matching;
mod plan;
mod resolving;
pub(crate) mod revising;
pub(crate) mod scoring;
mod turns;

use std::{collections::HashMap, sync::Arc, time::Duration};

use chrono::{DateTime, SubsecRound as _, TimeDelta, Utc};
use futures::FutureExt as _;
use rekindle_artifacts::Artifacts;
use rekindle_bus::{Bus, panics::caught};
use rekindle_domain::ModelName;
use rekindle_service::chain;
use rekindle_store::{Fence, Leases};
use sea_orm::DatabaseConnection;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use self::{due::Due, turns::Turns};
use crate::{
    Error,
    chunk::Chunk,
    frame::{Columns, ScanFilter},
    join::Sample,
    metrics,
    outcome_watermark::OutcomeWatermark,
    ownership,
    reference::References,
    store::{logs, reports, watches},
    window::Window,
};

/// What evaluation works with.
pub(crate) struct Evaluation {
    pub(crate) db: DatabaseConnection,
    pub(crate) bus: Bus,
    pub(crate) artifacts: Artifacts,
    pub(crate) references: References,
    pub(crate) leases: Leases,
    /// Notified when windows may have become due.
    pub(crate) captured: Arc<Notify>,
    /// Longest time between two checks for due windows.
    pub(crate) every: Duration,
    /// Rows of a window that are evaluated at most; of more, a sample.
    pub(crate) window_rows: u64,
    /// Share of a window's rows that must be labelled before the label wait is over.
    pub(crate) labelled_share: f64,
    /// How long outcomes wait for their predictions.
    pub(crate) outcome_wait: TimeDelta,
    /// How long outcomes of measured windows wait before the windows are measured again.
    pub(crate) revise_after: TimeDelta,
    /// By model; what is missing is recomputed.
    pub(crate) memory: HashMap<ModelName, Memory>,
    pub(crate) due: Due,
}

/// What evaluation remembers of a model between two steps.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// The log's `reset_at`; after a reset, the rest is forgotten.
    reset_at: i64,
    outcomes: OutcomeWatermark,
    /// What was there when the outcomes by join key were resolved last.
    resolved: Option<resolving::Seen>,
    revised: revising::Revised,
    /// The report up to which the current pass over reports without a quality has come.
    scanned: Option<reports::Cursor>,
}

/// The result of one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Something was done, and more may be due.
    Worked,
    /// Nothing is due.
    Idle,
}

/// The current time in microseconds, the precision that every database keeps.
fn now() -> DateTime<Utc> {
    Utc::now().trunc_subsecs(6)
}

impl Evaluation {
    /// Evaluates whenever something was captured, and at least every `every`, until `stop`.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<(), Error> {
        let mut changes = self.leases.subscribe();
        let (mut turns, mut refresh_at) = (Turns::default(), Instant::now());
        while !stop.is_cancelled() {
            if Instant::now() >= refresh_at || self.is_notified(&mut changes) {
                self.refresh(&mut turns).await;
                refresh_at = Instant::now() + self.every;
            }
            if let Some(model) = turns.next() {
                if self.try_step(&model).await == Step::Worked {
                    turns.again(model);
                }
                continue;
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.captured.notified() => refresh_at = Instant::now(),
                _ = changes.changed() => refresh_at = Instant::now(),
                () = sleep_until(refresh_at) => {}
            }
        }
        Ok(())
    }

    /// Whether rows were captured or leases have changed since the last call.
    fn is_notified(&self, changes: &mut watch::Receiver<()>) -> bool {
        let have_changed = changes.has_changed().unwrap_or(false);
        changes.mark_unchanged();
        self.captured.notified().now_or_never().is_some() || have_changed
    }

    /// Claims every model, and gives each that may have something due a turn.
    async fn refresh(&mut self, turns: &mut Turns) {
        match self.find_due().await {
            Ok((models, due)) => {
                models.iter().for_each(|model| self.leases.claim(ownership::evaluation(model)));
                turns.offer(due);
            }
            Err(error) => tracing::warn!(error = chain(&error), "listing the models failed, retrying"),
        }
    }

    /// One step; a model that fails waits for the next refresh, and the others continue.
    async fn try_step(&mut self, model: &ModelName) -> Step {
        let Some(fence) = self.leases.fence(&ownership::evaluation(model)) else {
            self.memory.remove(model);
            self.due.forget(model);
            return Step::Idle;
        };
        match caught(Box::pin(self.step(model, &fence))).await.map_err(Error::from).flatten() {
            Ok(Step::Worked) => Step::Worked,
            Ok(Step::Idle) => {
                self.due.is_idle(model);
                Step::Idle
            }
            Err(error) if error.is_lost_lease() => {
                tracing::warn!(%model, error = chain(&error), "evaluation refused");
                ownership::give_up(&self.leases, &fence);
                Step::Idle
            }
            Err(error) => {
                metrics::add(metrics::EVALUATION_FAILURES, model, 1);
                tracing::warn!(%model, error = chain(&error), "evaluation failed, retrying");
                Step::Idle
            }
        }
    }

    /// Closes the next window of a model or, if none is due, measures the quality of the next report or, if none is due, measures one again
    /// or, if none has further outcomes, checks outcomes.
    async fn step(&mut self, model: &ModelName, fence: &Fence) -> Result<Step, Error> {
        let settings = watches::get(&self.db, model).await?.settings;
        let log = logs::get(&self.db, model).await?;
        if self.memory.get(model).is_none_or(|memory| memory.reset_at != log.reset_at) {
            self.memory.insert(model.clone(), Memory { reset_at: log.reset_at, ..Memory::default() });
        }
        if let Step::Worked = self.close_next(model, &settings, log, fence).await? {
            return Ok(Step::Worked);
        }
        if let Step::Worked = Box::pin(self.score_next(model, &settings, fence)).await? {
            return Ok(Step::Worked);
        }
        if let Step::Worked = Box::pin(self.revise_next(model, &settings, fence)).await? {
            return Ok(Step::Worked);
        }
        self.match_next(model, fence).await
    }

    /// Selects the rows of a window in chunks, or a sample of them that fits into memory.
    fn filter(&self, chunks: &[Chunk], window: Window, columns: Columns) -> ScanFilter {
        let rows = chunks.iter().map(|chunk| chunk.rows).sum();
        ScanFilter {
            from: Some(window.from),
            until: Some(window.until),
            sample: Sample::of_rows(rows, self.window_rows),
            columns,
        }
    }
}
