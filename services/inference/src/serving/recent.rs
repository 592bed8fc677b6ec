//! Rows of recent requests, with which later versions of the model are warmed up.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
};

use arrow::array::RecordBatch;

/// Requests that are kept.
const KEPT: usize = 16;
/// Bytes of the rows of a request that is kept, at most, so that the memory of larger ones is not held.
const MAX_BYTES: usize = 64 << 10;
/// Milliseconds between two requests that are kept.
const INTERVAL: i64 = 100;

/// The rows of some recent requests for one model.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    /// When the next request is kept, in milliseconds since 1970 UTC.
    next_at: AtomicI64,
    requests: Mutex<VecDeque<RecordBatch>>,
}

impl Recent {
    /// Keeps the rows of a request that arrived at `at`, in milliseconds since 1970 UTC, unless another one was kept just before.
    pub(crate) fn offer(&self, rows: &RecordBatch, at: i64) {
        let next_at = self.next_at.load(Relaxed);
        let is_due = at >= next_at || at < next_at.saturating_sub(INTERVAL);
        if !is_due || rows.get_array_memory_size() > MAX_BYTES {
            return;
        }
        // Of several requests at once, one is kept.
        if self.next_at.compare_exchange(next_at, at.saturating_add(INTERVAL), Relaxed, Relaxed).is_ok() {
            let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
            requests.truncate(KEPT - 1);
            requests.push_front(rows.clone());
        }
    }

    /// The rows of each request, the latest first.
    pub(crate) fn requests(&self) -> Vec<RecordBatch> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serving::fixture::rows;

    #[test]
    fn the_latest_small_requests_are_kept_at_intervals() {
        let recent = Recent::default();
        for (rows_of, at) in [(1, 1000), (2, 1001), (MAX_BYTES, 2000), (3, 2001), (4, 500)] {
            recent.offer(&rows(rows_of), at);
        }
        let kept = |recent: &Recent| recent.requests().iter().map(RecordBatch::num_rows).collect::<Vec<_>>();
        assert_eq!(kept(&recent), [4, 3, 1], "the clock may be set back");
        for at in 0..40 {
            recent.offer(&rows(5), 10_000 + at * INTERVAL);
        }
        assert_eq!(kept(&recent), [5; KEPT]);
    }
}
