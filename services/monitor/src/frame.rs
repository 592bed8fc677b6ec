//! Rows of the prediction log for one window or span, with the truth of each where it was told: segments read one after
//! another, of each only the columns asked for, and of the outcomes only those of the rows at hand.

use arrow::{
    array::{BooleanArray, RecordBatch},
    compute::{concat_batches, filter_record_batch},
};
use bytes::Bytes;
use rekindle_artifacts::Artifacts;

use crate::{
    Error,
    join::{Join, Sample},
    outcome::{Key, Truth},
    segment::{self, Keys, Segment},
};

/// Which rows and columns to read.
pub(crate) struct Wanted {
    /// First event time, in milliseconds; `None` is open.
    pub(crate) from: Option<i64>,
    /// First event time after the span; `None` is open.
    pub(crate) until: Option<i64>,
    /// Only this row.
    pub(crate) key: Option<Key>,
    /// Which share of the rows.
    pub(crate) sample: Sample,
    /// Which columns besides those that name the row and its time.
    pub(crate) columns: fn(&str) -> bool,
}

impl Wanted {
    fn takes_time(&self, time: i64) -> bool {
        self.from.is_none_or(|from| time >= from) && self.until.is_none_or(|until| time < until)
    }

    fn takes_column(&self, name: &str) -> bool {
        [segment::PREDICTION_ID, segment::ROW, segment::EVENT_TIME].contains(&name) || (self.columns)(name)
    }
}

/// Rows read, each once. Of rows outside the sample only the number is known: the sample is there because memory would not hold all.
#[derive(Default)]
pub(crate) struct Frame {
    batches: Vec<RecordBatch>,
    join: Join,
    ids: Option<(u128, u128)>,
    next_event: Option<i64>,
    rows: u64,
}

impl Frame {
    /// Reads rows from segments.
    pub(crate) async fn read(artifacts: &Artifacts, segments: &[Segment], wanted: Wanted) -> Result<Self, Error> {
        let (mut frame, mut wanted) = (Self::default(), wanted);
        for segment in segments {
            let bytes = artifacts.get_object_verified(&segment.object_key, &segment.digest).await?;
            (frame, wanted) = tokio::task::spawn_blocking(move || {
                frame.add(bytes, &wanted)?;
                Ok::<_, Error>((frame, wanted))
            })
            .await??;
        }
        Ok(frame)
    }

    /// Reads what was told of the rows.
    pub(crate) async fn tell(mut self, artifacts: &Artifacts, outcomes: &[Segment]) -> Result<Self, Error> {
        for segment in outcomes {
            let bytes = artifacts.get_object_verified(&segment.object_key, &segment.digest).await?;
            self = tokio::task::spawn_blocking(move || {
                for batch in segment::read(bytes, |_| true)? {
                    segment::each_outcome(&batch?, |key, told, truth| self.join.tell(key, told, truth))?;
                }
                Ok::<_, Error>(self)
            })
            .await??;
        }
        Ok(self)
    }

    fn add(&mut self, bytes: Bytes, wanted: &Wanted) -> Result<(), Error> {
        for batch in segment::read(bytes, |name| wanted.takes_column(name))? {
            let batch = batch?;
            let (keys, times) = (Keys::of(&batch)?, segment::event_times(&batch)?);
            let mut kept = Vec::with_capacity(keys.rows());
            for place in 0..keys.rows() {
                let (key, time) = (keys.key(place), times.value(place));
                kept.push(self.takes(key, time, wanted));
            }
            if kept.contains(&true) {
                self.batches.push(filter_record_batch(&batch, &BooleanArray::from(kept))?);
            }
        }
        Ok(())
    }

    fn takes(&mut self, key: Key, time: i64, wanted: &Wanted) -> bool {
        if wanted.until.is_some_and(|until| time >= until) {
            self.next_event = Some(self.next_event.map_or(time, |next| next.min(time)));
        }
        if !wanted.takes_time(time) || wanted.key.is_some_and(|only| only != key) {
            return false;
        }
        if !wanted.sample.takes(key) {
            self.rows += 1;
            return false;
        }
        let is_new = self.join.add_row(key);
        if is_new {
            self.rows += 1;
            let id = key.prediction;
            self.ids = Some(self.ids.map_or((id, id), |(min, max)| (min.min(id), max.max(id))));
        }
        is_new
    }

    /// The rows as one batch, in the order of the log; `None` where there are none.
    pub(crate) fn batch(&self) -> Result<Option<RecordBatch>, Error> {
        let Some(first) = self.batches.first() else { return Ok(None) };
        Ok(Some(concat_batches(&first.schema(), &self.batches)?))
    }

    /// Rows in the span, those left out of the sample included, as often as they were logged.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// The smallest and the greatest prediction id.
    pub(crate) fn ids(&self) -> Option<(u128, u128)> {
        self.ids
    }

    /// The earliest event time after the span among the rows read.
    pub(crate) fn next_event(&self) -> Option<i64> {
        self.next_event
    }

    /// The truth of each row of [`Self::batch`].
    pub(crate) fn truths(&self) -> impl ExactSizeIterator<Item = Option<&Truth>> {
        self.join.truths()
    }

    /// Rows of the batch, and how many of them have a truth.
    pub(crate) fn labelled(&self) -> (usize, usize) {
        (self.join.truths().len(), self.join.labelled())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_logged_twice_counts_once_where_its_key_is_kept() {
        let counted = |of: u64| {
            let sample = Sample { of };
            let wanted = Wanted { from: None, until: None, key: None, sample, columns: |_| true };
            let (mut frame, key) = (Frame::default(), Key { prediction: 1, row: 0 });
            let kept = [(); 2].map(|()| frame.takes(key, 0, &wanted));
            (sample.takes(key), kept, frame.rows())
        };
        assert_eq!(counted(1), (true, [true, false], 1));
        assert_eq!(counted(u64::MAX), (false, [false, false], 2));
    }
}
