//! The requests for one version that wait for a place.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use arrow::array::RecordBatch;
use tokio::sync::oneshot;

use super::{Executed, Failure};

/// The rows of one request.
pub(crate) struct Job {
    pub(super) rows: RecordBatch,
    pub(super) reply: oneshot::Sender<Result<Executed, Failure>>,
    pub(super) queued_at: Instant,
}

/// What became of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Push {
    /// Refused: too many rows are queued.
    Full,
    /// A worker will execute it.
    Queued,
    /// The caller starts a worker, which is counted already.
    NeedsWorker,
}

/// First in, first out.
#[derive(Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    rows: usize,
    /// Each ends when it finds no jobs.
    workers: usize,
}

impl Queue {
    /// Adds a job, if no more than `max_rows` rows are queued with it. A job that is alone in the queue is always taken.
    pub(super) fn push(&self, job: Job, max_rows: usize, max_workers: usize) -> Push {
        let mut state = self.state();
        let rows = state.rows.saturating_add(job.rows.num_rows());
        if rows > max_rows && !state.jobs.is_empty() {
            return Push::Full;
        }
        state.rows = rows;
        state.jobs.push_back(job);
        if state.workers >= max_workers {
            return Push::Queued;
        }
        state.workers += 1;
        Push::NeedsWorker
    }

    /// The next jobs, of at most `max_rows` rows or a single one. `None` if there are none: the worker ends.
    pub(super) fn take(&self, max_rows: usize) -> Option<Vec<Job>> {
        let mut state = self.state();
        let (mut taken, mut rows) = (Vec::new(), 0_usize);
        while let Some(job) = state.jobs.front() {
            let of_job = job.rows.num_rows();
            let is_wanted = !job.reply.is_closed();
            if is_wanted && !taken.is_empty() && rows.saturating_add(of_job) > max_rows {
                break;
            }
            state.rows = state.rows.saturating_sub(of_job);
            let job = state.jobs.pop_front();
            if is_wanted {
                rows = rows.saturating_add(of_job);
                taken.extend(job);
            }
        }
        if taken.is_empty() {
            state.workers = state.workers.saturating_sub(1);
            return None;
        }
        Some(taken)
    }

    /// The number of queued rows.
    pub(crate) fn rows(&self) -> usize {
        self.state().rows
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
