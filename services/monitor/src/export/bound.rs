//! The latest rows of a span that fit into one export.

use std::{cmp::Reverse, collections::BinaryHeap};

use rekindle_artifacts::Artifacts;

use super::Span;
use crate::{
    Error,
    chunk::{self, Chunk, columns},
};

/// Which chunks to read, and from which event time on.
pub(super) struct Bounded {
    /// In order of commit.
    pub(super) chunks: Vec<Chunk>,
    /// In milliseconds; `None` is open.
    pub(super) from: Option<i64>,
    /// Rows of the span before `from`. Chunks that are not read count with all their rows.
    pub(super) left_out: u64,
}

/// At most `limit` rows of the span: all of them, or the latest. Rows of one millisecond are exported together or not at all.
pub(super) async fn latest(artifacts: &Artifacts, found: Vec<Chunk>, span: Span, limit: u64) -> Result<Bounded, Error> {
    let all: u64 = found.iter().map(|chunk| chunk.rows).sum();
    if all <= limit {
        return Ok(Bounded { chunks: found, from: span.from, left_out: 0 });
    }
    let (chunks, skipped) = candidates(found, limit);
    let mut latest = Latest { limit, times: BinaryHeap::new(), in_span: 0 };
    let (from, until) = (span.from, span.until);
    for chunk in &chunks {
        let bytes = artifacts.get_object_verified(&chunk.object_key, &chunk.digest).await?;
        latest = tokio::task::spawn_blocking(move || {
            for batch in chunk::read(bytes, |name| name == columns::EVENT_TIME)? {
                let batch = batch?;
                for &time in columns::event_times(&batch)?.values() {
                    if from.is_none_or(|from| time >= from) && until.is_none_or(|until| time < until) {
                        latest.add(time);
                    }
                }
            }
            Ok::<_, Error>(latest)
        })
        .await??;
    }
    let kept = latest.kept();
    let left_out = skipped + latest.in_span - kept.1;
    Ok(Bounded { chunks, from: kept.0.or(span.from), left_out })
}

/// The chunks that may hold any of the latest `limit` rows, and the number of rows in the others. More than `limit` rows lie in chunks
/// that begin at or after some event time; a chunk that ends before it holds none of the latest.
fn candidates(found: Vec<Chunk>, limit: u64) -> (Vec<Chunk>, u64) {
    let mut latest_first: Vec<(i64, u64)> =
        found.iter().filter_map(|chunk| chunk.events.map(|(min, _)| (min, chunk.rows))).collect();
    latest_first.sort_unstable_by_key(|&(min, _)| Reverse(min));
    let mut rows = 0;
    let enough = latest_first.into_iter().find(|(_, more)| {
        rows += more;
        rows > limit
    });
    let matters = |chunk: &Chunk| match (chunk.events, enough) {
        (Some((_, max)), Some((since, _))) => max >= since,
        _ => true,
    };
    let (chunks, rest): (Vec<Chunk>, Vec<Chunk>) = found.into_iter().partition(matters);
    (chunks, rest.iter().map(|chunk| chunk.rows).sum())
}

/// The latest of many event times, in memory that is bounded by the limit.
struct Latest {
    limit: u64,
    /// At most one more than the limit, the earliest on top.
    times: BinaryHeap<Reverse<i64>>,
    in_span: u64,
}

impl Latest {
    fn add(&mut self, time: i64) {
        self.in_span += 1;
        self.times.push(Reverse(time));
        if self.times.len() as u64 > self.limit.saturating_add(1) {
            self.times.pop();
        }
    }

    /// The event time from which on the rows fit, `None` if all do, and the number of these rows.
    fn kept(&self) -> (Option<i64>, u64) {
        match self.times.peek() {
            Some(&Reverse(first_too_many)) if self.times.len() as u64 > self.limit => {
                let kept = self.times.iter().filter(|Reverse(time)| *time > first_too_many).count();
                (Some(first_too_many.saturating_add(1)), kept as u64)
            }
            _ => (None, self.in_span),
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::chunk::Kind;

    fn chunk(rows: u64, events: (i64, i64)) -> Chunk {
        Chunk {
            id: Uuid::nil(),
            kind: Kind::Prediction,
            model: "flights".parse().expect("a valid name"),
            model_version: 1,
            bundle: None,
            object_key: String::new(),
            digest: rekindle_domain::Digest::of(b""),
            rows,
            bytes: 0,
            events: Some(events),
            ids: (0, 0),
        }
    }

    #[test]
    fn the_latest_rows_that_fit_are_kept_and_equal_times_stay_together() {
        let kept = |limit: u64, times: &[i64]| {
            let mut latest = Latest { limit, times: BinaryHeap::new(), in_span: 0 };
            times.iter().for_each(|&time| latest.add(time));
            latest.kept()
        };
        assert_eq!(kept(3, &[5, 1, 4]), (None, 3));
        assert_eq!(kept(3, &[5, 1, 4, 2, 3]), (Some(3), 3));
        assert_eq!(kept(3, &[5, 3, 4, 3, 3]), (Some(4), 2));
        assert_eq!(kept(0, &[5]), (Some(6), 0));
    }

    #[test]
    fn only_chunks_that_end_before_the_latest_rows_are_skipped() {
        let long_ago = chunk(10, (0, 9));
        let across = chunk(10, (0, 25));
        let recent = chunk(10, (20, 29));
        let newest = chunk(10, (30, 39));
        let (read, skipped) = candidates(vec![long_ago, across.clone(), recent.clone(), newest.clone()], 15);
        assert_eq!((read, skipped), (vec![across, recent, newest], 10));
    }
}
