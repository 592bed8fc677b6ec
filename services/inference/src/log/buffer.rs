//! Rows that wait for the bus, bounded by memory; the oldest go first when it is full.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use rekindle_domain::ModelName;

use super::{
    Answered,
    rows::{LogShape, Segment},
};

/// Answers as they came, and segments joined from older answers, oldest first; and what was dropped.
pub(super) struct Buffer {
    limit_bytes: usize,
    gathered: VecDeque<Answered>,
    gathered_rows: usize,
    segments: VecDeque<Segment>,
    segment_rows: u64,
    bytes: usize,
    /// Per model, rows dropped since its last message, and the shape in which to declare them.
    lost: BTreeMap<ModelName, (Arc<LogShape>, u64)>,
}

/// What to send next.
pub(super) struct Next {
    /// Rows; none where there is only a loss to declare.
    pub(super) segment: Segment,
    /// Rows of the same model dropped since its last message.
    pub(super) lost_before: u64,
}

impl Buffer {
    pub(super) fn new(limit_bytes: usize) -> Self {
        Self {
            limit_bytes,
            gathered: VecDeque::new(),
            gathered_rows: 0,
            segments: VecDeque::new(),
            segment_rows: 0,
            bytes: 0,
            lost: BTreeMap::new(),
        }
    }

    /// Takes an answer in; returns how many older rows were dropped for it.
    pub(super) fn push(&mut self, answered: Answered) -> u64 {
        self.gathered_rows += answered.rows.num_rows();
        self.bytes += answered.byte_size();
        self.gathered.push_back(answered);
        self.make_room()
    }

    pub(super) fn gathered_rows(&self) -> usize {
        self.gathered_rows
    }

    pub(super) fn waiting_rows(&self) -> u64 {
        self.segment_rows + self.gathered_rows as u64
    }

    /// Hands out all answers, to be joined and brought back with [`Self::keep`].
    pub(super) fn take_gathered(&mut self) -> Vec<Answered> {
        let gathered = Vec::from(std::mem::take(&mut self.gathered));
        self.bytes -= gathered.iter().map(Answered::byte_size).sum::<usize>();
        self.gathered_rows = 0;
        gathered
    }

    /// Takes segments in, younger than all others; returns how many rows were dropped for them.
    pub(super) fn keep(&mut self, segments: Vec<Segment>) -> u64 {
        for segment in segments {
            self.segment_rows += segment.rows();
            self.bytes += segment.bytes;
            self.segments.push_back(segment);
        }
        self.make_room()
    }

    /// Counts rows of a model as lost.
    pub(super) fn lose(&mut self, shape: &Arc<LogShape>, rows: u64) {
        let entry = self.lost.entry(shape.model.clone()).or_insert_with(|| (Arc::clone(shape), 0));
        entry.1 += rows;
    }

    /// The oldest segment with the losses before it; or, when there is none, losses alone.
    pub(super) fn next(&mut self) -> Option<Next> {
        if let Some(segment) = self.pop_segment() {
            let lost_before = self.lost.remove(&segment.shape.model).map_or(0, |(_, rows)| rows);
            return Some(Next { segment, lost_before });
        }
        let (_, (shape, lost_before)) = self.lost.pop_first()?;
        Some(Next { segment: Segment::empty(shape), lost_before })
    }

    /// Puts a segment back in halves, still the oldest. A single row that is too large is lost.
    pub(super) fn split(&mut self, segment: Segment, lost_before: u64) {
        let shape = Arc::clone(&segment.shape);
        match segment.halves() {
            Some((first, second)) => {
                for half in [second, first] {
                    self.segment_rows += half.rows();
                    self.bytes += half.bytes;
                    self.segments.push_front(half);
                }
                if lost_before > 0 {
                    self.lose(&shape, lost_before);
                }
            }
            None => {
                super::count_dropped(1);
                tracing::error!(model = %shape.model, "a row is larger than a message of the prediction log may be");
                self.lose(&shape, lost_before + 1);
            }
        }
    }

    fn pop_segment(&mut self) -> Option<Segment> {
        let segment = self.segments.pop_front()?;
        self.segment_rows -= segment.rows();
        self.bytes -= segment.bytes;
        Some(segment)
    }

    fn make_room(&mut self) -> u64 {
        let mut dropped = 0;
        while self.bytes > self.limit_bytes {
            let (shape, rows) = if let Some(segment) = self.pop_segment() {
                (Arc::clone(&segment.shape), segment.rows())
            } else if let Some(answered) = self.gathered.pop_front() {
                self.gathered_rows -= answered.rows.num_rows();
                self.bytes -= answered.byte_size();
                (Arc::clone(&answered.shape), answered.rows.num_rows() as u64)
            } else {
                break;
            };
            self.lose(&shape, rows);
            dropped += rows;
        }
        dropped
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{RecordBatch, RecordBatchOptions};
    use chrono::DateTime;
    use rekindle_domain::{Digest, PredictionId, VersionRef};
    use rekindle_model::{Prediction, Signature};
    use uuid::Uuid;

    use super::*;
    use crate::log::EventTimes;

    fn shape(model: &str) -> Arc<LogShape> {
        let version = VersionRef { version: 1, bundle: Digest::of(b"bundle") };
        let signature = Signature { inputs: Vec::new(), outputs: Vec::new(), time_input: None };
        Arc::new(LogShape::new(model.parse().expect("a name"), version, &signature))
    }

    fn answered(shape: &Arc<LogShape>, rows: usize) -> Answered {
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let nothing = Arc::new(arrow::datatypes::Schema::empty());
        Answered {
            shape: Arc::clone(shape),
            prediction_id: PredictionId::new(Uuid::nil()),
            answered_at: DateTime::UNIX_EPOCH,
            event_times: EventTimes::Same(0),
            rows: RecordBatch::try_new_with_options(nothing, Vec::new(), &options).expect("a batch"),
            prediction: Prediction { rows, outputs: Vec::new() },
        }
    }

    #[test]
    fn the_oldest_go_first_and_are_declared_by_their_own_model() {
        let (a, b) = (shape("a"), shape("b"));
        let one = answered(&a, 5).byte_size();
        let mut buffer = Buffer::new(2 * one);
        assert_eq!(buffer.push(answered(&a, 5)), 0);
        assert_eq!(buffer.push(answered(&b, 3)), 0);
        assert_eq!(buffer.push(answered(&b, 2)), 5, "the oldest answer makes room");
        assert_eq!((buffer.waiting_rows(), buffer.gathered_rows()), (5, 5));

        let joined = crate::log::rows::join(buffer.take_gathered(), 100);
        buffer.limit_bytes = usize::MAX;
        assert_eq!(buffer.keep(joined.segments), 0);
        let first = buffer.next().expect("rows of b");
        assert_eq!((first.segment.shape.model.as_str(), first.segment.rows(), first.lost_before), ("b", 5, 0));
        let second = buffer.next().expect("the losses of a");
        assert_eq!((second.segment.shape.model.as_str(), second.segment.rows(), second.lost_before), ("a", 0, 5));
        assert!(buffer.next().is_none());
    }

    #[test]
    fn halves_stay_the_oldest_and_a_row_that_is_too_large_is_lost() {
        let a = shape("a");
        let mut buffer = Buffer::new(usize::MAX);
        let segments = |sizes: &[usize]| {
            crate::log::rows::join(sizes.iter().map(|&rows| answered(&a, rows)).collect(), 1).segments
        };
        buffer.keep(segments(&[3, 1]));
        let Next { segment, .. } = buffer.next().expect("three rows");
        buffer.split(segment, 7);
        let Next { segment, lost_before } = buffer.next().expect("the first half");
        assert_eq!((segment.rows(), lost_before), (1, 7));
        buffer.split(segment, lost_before);
        let Next { segment, lost_before } = buffer.next().expect("the second half");
        assert_eq!((segment.rows(), lost_before), (2, 8), "the loss travels on");
        assert_eq!(buffer.waiting_rows(), 1);
    }
}
