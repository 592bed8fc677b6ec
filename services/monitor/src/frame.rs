//! Rows of the prediction log for one window or span, with their labels. Chunks are read one after another; of each, only the selected
//! columns are decoded, and of the outcomes only those of the rows read are kept.

use arrow::{
    array::{BooleanArray, RecordBatch, UInt32Array},
    compute::{concat_batches, filter_record_batch, take_record_batch},
};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use rekindle_artifacts::Artifacts;
use rekindle_domain::outcome::Label;

use crate::{
    Error,
    chunk::{
        self, Chunk,
        columns::{EVENT_TIME, Keys, PREDICTION_ID, ROW, event_times},
        outcomes,
    },
    join::{Join, Sample},
    outcome::Key,
};

/// Chunks of outcomes that are fetched while one is decoded.
const FETCHED_AHEAD: usize = 4;

/// Which rows and columns a scan returns.
pub(crate) struct ScanFilter {
    /// First event time, in milliseconds; `None` is open.
    pub(crate) from: Option<i64>,
    /// First event time after the span; `None` is open.
    pub(crate) until: Option<i64>,
    /// Which share of the rows.
    pub(crate) sample: Sample,
    /// Which columns besides the key and the event time.
    pub(crate) columns: Columns,
}

/// Which columns a scan returns, by name.
pub(crate) type Columns = Box<dyn Fn(&str) -> bool + Send + Sync>;

impl ScanFilter {
    fn selects_time(&self, time: i64) -> bool {
        self.from.is_none_or(|from| time >= from) && self.until.is_none_or(|until| time < until)
    }

    fn selects_column(&self, name: &str) -> bool {
        [PREDICTION_ID, ROW, EVENT_TIME].contains(&name) || (self.columns)(name)
    }
}

/// The rows of a scan, each once. Rows outside of the sample are counted and not kept: they would not fit into memory.
#[derive(Default)]
pub(crate) struct Frame {
    batches: Vec<RecordBatch>,
    join: Join,
    next_event: Option<i64>,
    rows: u64,
}

/// Rows in order of event time.
pub(crate) struct Ordered<'a> {
    pub(crate) batch: RecordBatch,
    /// The label of each row.
    pub(crate) labels: Vec<Option<&'a Label>>,
}

impl Frame {
    /// Reads rows from prediction chunks.
    pub(crate) async fn scan(artifacts: &Artifacts, chunks: &[Chunk], filter: ScanFilter) -> Result<Self, Error> {
        let (mut frame, mut filter) = (Self::default(), filter);
        for chunk in chunks {
            let bytes = artifacts.get_object_verified(&chunk.object_key, &chunk.digest).await?;
            (frame, filter) = tokio::task::spawn_blocking(move || {
                frame.add(bytes, &filter)?;
                Ok::<_, Error>((frame, filter))
            })
            .await??;
        }
        Ok(frame)
    }

    /// Joins the labels of the rows from outcome chunks.
    pub(crate) async fn with_labels(mut self, artifacts: &Artifacts, chunks: &[Chunk]) -> Result<Self, Error> {
        self.join = with_outcomes(self.join, artifacts, chunks).await?;
        Ok(self)
    }

    fn add(&mut self, bytes: Bytes, filter: &ScanFilter) -> Result<(), Error> {
        for batch in chunk::read(bytes, |name| filter.selects_column(name))? {
            let batch = batch?;
            let (keys, times) = (Keys::of(&batch)?, event_times(&batch)?);
            let mut kept = Vec::with_capacity(keys.rows());
            for index in 0..keys.rows() {
                kept.push(self.add_row(keys.key(index), times.value(index), filter));
            }
            if kept.contains(&true) {
                self.batches.push(filter_record_batch(&batch, &BooleanArray::from(kept))?);
            }
        }
        Ok(())
    }

    /// Counts a row; `true` if its values are to be kept.
    fn add_row(&mut self, key: Key, time: i64, filter: &ScanFilter) -> bool {
        if filter.until.is_some_and(|until| time >= until) {
            self.next_event = Some(self.next_event.map_or(time, |next| next.min(time)));
        }
        if !filter.selects_time(time) {
            return false;
        }
        if !filter.sample.selects(key) {
            self.rows += 1;
            return false;
        }
        let is_new = self.join.add_row(key);
        if is_new {
            self.rows += 1;
        }
        is_new
    }

    /// The rows as one batch, in the order of the log; `None` if there are none. It has the columns that all rows have: an input that was
    /// redacted for some of them is not among them.
    pub(crate) fn batch(&self) -> Result<Option<RecordBatch>, Error> {
        let Some(first) = self.batches.first() else { return Ok(None) };
        let schema = first.schema();
        if self.batches.iter().all(|batch| batch.schema() == schema) {
            return Ok(Some(concat_batches(&schema, &self.batches)?));
        }
        let is_common = |name: &str| self.batches.iter().all(|batch| batch.column_by_name(name).is_some());
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        let names: Vec<&str> = names.into_iter().filter(|name| is_common(name)).collect();
        let project = |batch: &RecordBatch| {
            let positions: Vec<usize> =
                names.iter().map(|name| batch.schema().index_of(name)).collect::<Result<_, _>>()?;
            batch.project(&positions)
        };
        let batches = self.batches.iter().map(project).collect::<Result<Vec<_>, _>>()?;
        Ok(Some(concat_batches(&batches[0].schema(), &batches)?))
    }

    /// The rows as one batch in order of event time, with their labels; `None` if there are none. Rows of one time are in the order of their keys:
    /// nothing depends on the order of the log.
    pub(crate) fn in_order(&self) -> Result<Option<Ordered<'_>>, Error> {
        let Some(batch) = self.batch()? else { return Ok(None) };
        let (times, keys) = (event_times(&batch)?.values(), Keys::of(&batch)?);
        let mut order: Vec<u32> = (0..u32::try_from(batch.num_rows()).unwrap_or(u32::MAX)).collect();
        order.sort_by_cached_key(|&row| (times[row as usize], keys.key(row as usize)));
        let labels: Vec<Option<&Label>> = self.labels().collect();
        let labels = order.iter().map(|&row| labels[row as usize]).collect();
        Ok(Some(Ordered { batch: take_record_batch(&batch, &UInt32Array::from(order))?, labels }))
    }

    /// Number of rows in the span. Rows outside of the sample are included, as often as they were logged.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// The smallest and the greatest prediction id.
    pub(crate) fn ids(&self) -> Option<(u128, u128)> {
        self.join.ids()
    }

    /// The earliest event time after the span among the rows read.
    pub(crate) fn next_event(&self) -> Option<i64> {
        self.next_event
    }

    /// The label of each row of [`Self::batch`].
    pub(crate) fn labels(&self) -> impl ExactSizeIterator<Item = Option<&Label>> {
        self.join.labels()
    }

    /// Rows of the batch, and how many of them have a label.
    pub(crate) fn labelled(&self) -> (usize, usize) {
        (self.join.labels().len(), self.join.labelled())
    }
}

/// Adds the outcomes of chunks to a join. Of each chunk, only the pages that may hold outcomes of the rows are decoded.
pub(crate) async fn with_outcomes(mut join: Join, artifacts: &Artifacts, chunks: &[Chunk]) -> Result<Join, Error> {
    let Some(ids) = join.ids() else { return Ok(join) };
    let fetch = |chunk: &Chunk| {
        let (key, digest) = (chunk.object_key.clone(), chunk.digest);
        async move { artifacts.get_object_verified(&key, &digest).await }
    };
    let mut fetched = std::pin::pin!(stream::iter(chunks).map(fetch).buffered(FETCHED_AHEAD));
    while let Some(bytes) = fetched.try_next().await? {
        join = tokio::task::spawn_blocking(move || {
            for batch in chunk::read_ids(bytes, ids)? {
                outcomes::visit(&batch?, |key, position, label| join.add_outcome(key, position, label))?;
            }
            Ok::<_, Error>(join)
        })
        .await??;
    }
    Ok(join)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, FixedSizeBinaryArray, Int64Array, TimestampMillisecondArray};

    use super::*;
    use crate::outcome::Position;

    #[test]
    fn rows_with_and_without_a_redacted_input_have_their_common_columns() {
        let column = |names: &[&str]| {
            let columns = names.iter().map(|name| (*name, Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef));
            RecordBatch::try_from_iter(columns).expect("columns")
        };
        let frame = |batches| Frame { batches, ..Frame::default() };
        let mixed = frame(vec![column(&["in.a", "in.b", "in.c"]), column(&["in.a", "in.c"])]).batch();
        let mixed = mixed.expect("concatenates").expect("rows");
        let names: Vec<_> = mixed.schema().fields().iter().map(|field| field.name().clone()).collect();
        assert_eq!((names, mixed.num_rows()), (vec!["in.a".to_owned(), "in.c".to_owned()], 4));
        assert!(frame(Vec::new()).batch().expect("empty").is_none());
    }

    #[test]
    fn rows_are_ordered_by_event_time_with_their_labels() {
        let mut frame = Frame::default();
        let filter = ScanFilter { from: None, until: None, sample: Sample { of: 1 }, columns: Box::new(|_| true) };
        let times = [30_i64, 10, 20];
        for (prediction, &time) in (1_u128..).zip(&times) {
            assert!(frame.add_row(Key { prediction, row: 0 }, time, &filter));
            let label = Label::Number(time as f64);
            frame.join.add_outcome(Key { prediction, row: 0 }, Position { at: 0, sequence: 0, line: 1 }, || label);
        }
        let columns: [(&str, ArrayRef); 3] = [
            (EVENT_TIME, Arc::new(TimestampMillisecondArray::from(times.to_vec()))),
            (
                PREDICTION_ID,
                Arc::new(FixedSizeBinaryArray::try_from_iter((1_u128..4).map(u128::to_be_bytes)).expect("ids")),
            ),
            (ROW, Arc::new(UInt32Array::from(vec![0; 3]))),
        ];
        frame.batches = vec![RecordBatch::try_from_iter(columns).expect("three columns")];
        let rows = frame.in_order().expect("a time column").expect("rows");
        assert_eq!(event_times(&rows.batch).expect("times").values().to_vec(), [10, 20, 30]);
        let labels: Vec<_> = rows.labels.into_iter().flatten().cloned().collect();
        assert_eq!(labels, [10.0, 20.0, 30.0].map(Label::Number));
    }

    #[test]
    fn a_row_logged_twice_counts_once_if_its_key_is_kept() {
        let counted = |of: u64| {
            let sample = Sample { of };
            let filter = ScanFilter { from: None, until: None, sample, columns: Box::new(|_| true) };
            let (mut frame, key) = (Frame::default(), Key { prediction: 1, row: 0 });
            let kept = [(); 2].map(|()| frame.add_row(key, 0, &filter));
            (sample.selects(key), kept, frame.rows())
        };
        assert_eq!(counted(1), (true, [true, false], 1));
        assert_eq!(counted(u64::MAX), (false, [false, false], 2));
    }
}
