//! Rows that are not published yet, bounded in memory. When the buffer is full, the oldest rows are dropped.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use rekindle_domain::ModelName;

use super::{
    PredictionRecord,
    batch::{LogBatch, LogSchema},
};
use crate::metrics;

/// Records in the order of their answers, batches joined from older records, and the number of dropped rows.
pub(super) struct Buffer {
    limit_bytes: usize,
    records: VecDeque<PredictionRecord>,
    recorded_rows: usize,
    batches: VecDeque<LogBatch>,
    batched_rows: u64,
    bytes: usize,
    /// Per model, the rows since its last message that are not logged, and the columns of the message that declares them.
    declared: BTreeMap<ModelName, (Arc<LogSchema>, Declared)>,
}

/// Rows of one model since its last message that are not logged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Declared {
    /// Dropped, because the buffer was full.
    pub(super) lost: u64,
    /// Not in the sample.
    pub(super) unsampled: u64,
}

/// The content of the next message.
pub(super) struct Next {
    /// The rows; none if there is only something to declare.
    pub(super) batch: LogBatch,
    /// Rows of the same model since its last message that are not logged.
    pub(super) declared: Declared,
}

impl Buffer {
    pub(super) fn new(limit_bytes: usize) -> Self {
        Self {
            limit_bytes,
            records: VecDeque::new(),
            recorded_rows: 0,
            batches: VecDeque::new(),
            batched_rows: 0,
            bytes: 0,
            declared: BTreeMap::new(),
        }
    }

    /// Adds a record. Returns how many older rows were dropped for it.
    pub(super) fn push(&mut self, record: PredictionRecord) -> u64 {
        self.recorded_rows += record.rows.num_rows();
        self.bytes += record.byte_size();
        self.records.push_back(record);
        self.make_room()
    }

    /// Rows that are not in a batch yet.
    pub(super) fn recorded_rows(&self) -> usize {
        self.recorded_rows
    }

    /// Rows that are not published yet.
    pub(super) fn buffered_rows(&self) -> u64 {
        self.batched_rows + self.recorded_rows as u64
    }

    /// Removes all records, to be joined into batches for [`Self::keep`].
    pub(super) fn take_records(&mut self) -> Vec<PredictionRecord> {
        let records = Vec::from(std::mem::take(&mut self.records));
        self.bytes -= records.iter().map(PredictionRecord::byte_size).sum::<usize>();
        self.recorded_rows = 0;
        records
    }

    /// Adds batches after all others. Returns how many rows were dropped for them.
    pub(super) fn keep(&mut self, batches: Vec<LogBatch>) -> u64 {
        for batch in batches {
            self.batched_rows += batch.rows();
            self.bytes += batch.bytes;
            self.batches.push_back(batch);
        }
        self.make_room()
    }

    /// Counts rows of a model as lost.
    pub(super) fn lose(&mut self, schema: &Arc<LogSchema>, rows: u64) {
        self.declare(schema, Declared { lost: rows, unsampled: 0 });
    }

    /// Counts rows of a model that are not in the sample.
    pub(super) fn skip(&mut self, schema: &Arc<LogSchema>, rows: u64) {
        self.declare(schema, Declared { lost: 0, unsampled: rows });
    }

    /// Counts rows of a model that are not logged.
    pub(super) fn declare(&mut self, schema: &Arc<LogSchema>, Declared { lost, unsampled }: Declared) {
        if lost + unsampled == 0 {
            return;
        }
        let (_, declared) =
            self.declared.entry(schema.model.clone()).or_insert_with(|| (Arc::clone(schema), Declared::default()));
        declared.lost += lost;
        declared.unsampled += unsampled;
    }

    /// Whether there are rows that no message has declared yet.
    pub(super) fn has_declarations(&self) -> bool {
        !self.declared.is_empty()
    }

    /// The oldest batch with what is declared before it; without a batch, the declaration alone.
    pub(super) fn next(&mut self) -> Option<Next> {
        if let Some(batch) = self.pop_batch() {
            let declared = self.declared.remove(&batch.schema.model).map(|(_, declared)| declared);
            return Some(Next { batch, declared: declared.unwrap_or_default() });
        }
        let (_, (schema, declared)) = self.declared.pop_first()?;
        Some(Next { batch: LogBatch::empty(schema), declared })
    }

    /// Puts a batch back as two halves, still the oldest. A single row that is too large is lost.
    pub(super) fn split(&mut self, batch: LogBatch, declared: Declared) {
        let schema = Arc::clone(&batch.schema);
        match batch.halves() {
            Some((first, second)) => {
                for half in [second, first] {
                    self.batched_rows += half.rows();
                    self.bytes += half.bytes;
                    self.batches.push_front(half);
                }
                self.declare(&schema, declared);
            }
            None => {
                metrics::record_dropped_rows(1);
                tracing::error!(model = %schema.model, "a row exceeds the size of a message of the prediction log");
                self.declare(&schema, Declared { lost: declared.lost + 1, ..declared });
            }
        }
    }

    fn pop_batch(&mut self) -> Option<LogBatch> {
        let batch = self.batches.pop_front()?;
        self.batched_rows -= batch.rows();
        self.bytes -= batch.bytes;
        Some(batch)
    }

    fn make_room(&mut self) -> u64 {
        let mut dropped = 0;
        while self.bytes > self.limit_bytes {
            let (schema, rows) = if let Some(batch) = self.pop_batch() {
                (Arc::clone(&batch.schema), batch.rows())
            } else if let Some(record) = self.records.pop_front() {
                self.recorded_rows -= record.rows.num_rows();
                self.bytes -= record.byte_size();
                (Arc::clone(&record.schema), record.rows.num_rows() as u64)
            } else {
                break;
            };
            self.lose(&schema, rows);
            dropped += rows;
        }
        dropped
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{RecordBatch, RecordBatchOptions};
    use chrono::DateTime;
    use rekindle_bundle::{Prediction, Signature};
    use rekindle_domain::{Digest, PredictionId, VersionRef};
    use uuid::Uuid;

    use super::*;
    use crate::{config::ModelLog, log::EventTimes};

    fn schema(model: &str) -> Arc<LogSchema> {
        let version = VersionRef { version: 1, bundle: Digest::of(b"bundle") };
        let signature = Signature { inputs: Vec::new(), outputs: Vec::new(), time_input: None };
        let config = ModelLog { model: model.parse().expect("a name"), sample_rate: 1.0, redact: Default::default() };
        Arc::new(LogSchema::new(version, &signature, &config).expect("nothing is redacted"))
    }

    fn record(schema: &Arc<LogSchema>, rows: usize) -> PredictionRecord {
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let nothing = Arc::new(arrow::datatypes::Schema::empty());
        PredictionRecord {
            guardrails: None,
            schema: Arc::clone(schema),
            prediction_id: PredictionId::new(Uuid::nil()),
            answered_at: DateTime::UNIX_EPOCH,
            event_times: EventTimes::Same(0),
            is_test: false,
            request_id: String::new(),
            entity_keys: None,
            rows: RecordBatch::try_new_with_options(nothing, Vec::new(), &options).expect("a batch"),
            prediction: Arc::new(Prediction { rows, outputs: Vec::new() }),
        }
    }

    #[test]
    fn the_oldest_rows_are_dropped_and_declared_by_their_own_model() {
        let (a, b) = (schema("a"), schema("b"));
        let one = record(&a, 5).byte_size();
        let mut buffer = Buffer::new(2 * one);
        assert_eq!(buffer.push(record(&a, 5)), 0);
        assert_eq!(buffer.push(record(&b, 3)), 0);
        assert_eq!(buffer.push(record(&b, 2)), 5, "the oldest record is dropped");
        assert_eq!((buffer.buffered_rows(), buffer.recorded_rows()), (5, 5));

        let joined = crate::log::batch::join(buffer.take_records(), 100);
        buffer.limit_bytes = usize::MAX;
        assert_eq!(buffer.keep(joined.batches), 0);
        let first = buffer.next().expect("rows of b");
        assert_eq!((first.batch.schema.model.as_str(), first.batch.rows(), first.declared.lost), ("b", 5, 0));
        let second = buffer.next().expect("the losses of a");
        assert_eq!((second.batch.schema.model.as_str(), second.batch.rows(), second.declared.lost), ("a", 0, 5));
        assert!(buffer.next().is_none());
    }

    #[test]
    fn halves_stay_the_oldest_and_a_row_that_exceeds_a_message_is_lost() {
        let a = schema("a");
        let mut buffer = Buffer::new(usize::MAX);
        let batches =
            |sizes: &[usize]| crate::log::batch::join(sizes.iter().map(|&rows| record(&a, rows)).collect(), 1).batches;
        buffer.keep(batches(&[3, 1]));
        let Next { batch, .. } = buffer.next().expect("three rows");
        buffer.split(batch, Declared { lost: 7, unsampled: 3 });
        let Next { batch, declared } = buffer.next().expect("the first half");
        assert_eq!((batch.rows(), declared), (1, Declared { lost: 7, unsampled: 3 }));
        buffer.split(batch, declared);
        let Next { batch, declared } = buffer.next().expect("the second half");
        assert_eq!((batch.rows(), declared), (2, Declared { lost: 8, unsampled: 3 }), "the loss stays declared");
        assert_eq!(buffer.buffered_rows(), 1);
    }
}
