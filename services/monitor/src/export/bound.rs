//! The latest rows of a span that fit into one export.

use std::{cmp::Reverse, collections::BinaryHeap};

use rekindle_artifacts::Artifacts;

use super::Span;
use crate::{
    Error,
    segment::{self, EVENT_TIME, Segment},
};

/// Which segments to read, and from which event time on.
pub(super) struct Bounded {
    /// In order of commit.
    pub(super) segments: Vec<Segment>,
    /// In milliseconds; `None` is open.
    pub(super) from: Option<i64>,
    /// Rows of the span before `from`; those of segments that need not be read are counted whole.
    pub(super) left_out: u64,
}

/// At most `limit` rows of the span: all of them, or the latest. Rows of one millisecond are taken together or not at all.
pub(super) async fn latest(
    artifacts: &Artifacts,
    found: Vec<Segment>,
    span: &Span,
    limit: u64,
) -> Result<Bounded, Error> {
    let all: u64 = found.iter().map(|segment| segment.rows).sum();
    if all <= limit {
        return Ok(Bounded { segments: found, from: span.from, left_out: 0 });
    }
    let (segments, passed_over) = candidates(found, limit);
    let mut latest = Latest { limit, times: BinaryHeap::new(), in_span: 0 };
    let (from, until) = (span.from, span.until);
    for segment in &segments {
        let bytes = artifacts.get_object_verified(&segment.object_key, &segment.digest).await?;
        latest = tokio::task::spawn_blocking(move || {
            for batch in segment::read(bytes, |name| name == EVENT_TIME)? {
                let batch = batch?;
                for &time in segment::event_times(&batch)?.values() {
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
    let left_out = passed_over + latest.in_span - kept.1;
    Ok(Bounded { segments, from: kept.0.or(span.from), left_out })
}

/// The segments that may hold any of the latest `limit` rows, and the rows of the others. Enough rows lie wholly at or after some event
/// time; what ends before it cannot matter.
fn candidates(found: Vec<Segment>, limit: u64) -> (Vec<Segment>, u64) {
    let mut latest_first: Vec<(i64, u64)> =
        found.iter().filter_map(|segment| segment.events.map(|(min, _)| (min, segment.rows))).collect();
    latest_first.sort_unstable_by_key(|&(min, _)| Reverse(min));
    let mut rows = 0;
    let enough = latest_first.into_iter().find(|(_, more)| {
        rows += more;
        rows > limit
    });
    let matters = |segment: &Segment| match (segment.events, enough) {
        (Some((_, max)), Some((since, _))) => max >= since,
        _ => true,
    };
    let (segments, rest): (Vec<Segment>, Vec<Segment>) = found.into_iter().partition(matters);
    (segments, rest.iter().map(|segment| segment.rows).sum())
}

/// The latest times of many, in memory that follows the limit.
struct Latest {
    limit: u64,
    /// One more than the limit at most, the earliest on top.
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

    /// From when on rows fit, `None` where all do; and how many that are.
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
    use crate::segment::Kind;

    fn segment(rows: u64, events: (i64, i64)) -> Segment {
        Segment {
            id: Uuid::nil(),
            kind: Kind::Prediction,
            model: "flights".parse().expect("a name"),
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
    fn the_latest_that_fit_are_kept_and_equal_times_stay_together() {
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
    fn only_segments_that_end_too_early_to_matter_are_passed_over() {
        let long_ago = segment(10, (0, 9));
        let across = segment(10, (0, 25));
        let recent = segment(10, (20, 29));
        let newest = segment(10, (30, 39));
        let (taken, passed_over) = candidates(vec![long_ago, across.clone(), recent.clone(), newest.clone()], 15);
        assert_eq!((taken, passed_over), (vec![across, recent, newest], 10));
    }
}
