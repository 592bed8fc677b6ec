//! The prediction log: Arrow IPC messages of the replicas.

use std::collections::BTreeMap;

use arrow::{array::RecordBatch, compute::concat_batches, datatypes::TimestampMicrosecondType};
use rekindle_bus::{Message, streams, subject};
use rekindle_dataset::prediction_log::{self, Header};
use rekindle_domain::{Digest, ModelName, event_time};
use rekindle_service::chain;
use uuid::Uuid;

use super::Captured;
use crate::{
    Error,
    chunk::{Draft, Kind, columns},
    join_key::{self, KeyedRow},
    store::logs::{Log, LogDelta},
    window::Timing,
};

/// Greatest message number that is plausible within one incarnation; sums of such numbers stay far below the bounds of a column.
const MAX_SEQUENCE: u64 = 1 << 48;
/// Most rows that a replica can have lost since its previous message. Sums of such numbers stay below the bounds of a column.
const MAX_LOST: u64 = 1 << 32;

/// One message of a replica.
#[derive(Clone)]
pub(crate) struct PredictionMessage {
    message_id: String,
    header: Header,
    batch: RecordBatch,
    join_keys: Vec<KeyedRow>,
}

impl PredictionMessage {
    /// The request, the event time in milliseconds, and the time of the answer in microseconds, of each row.
    fn times(&self) -> Option<impl Iterator<Item = (u128, i64, i64)>> {
        let (keys, times) = (columns::Keys::of(&self.batch).ok()?, columns::event_times(&self.batch).ok()?);
        let answered = self.batch.column_by_name(columns::ANSWERED_AT)?;
        let answered = arrow::array::AsArray::as_primitive_opt::<TimestampMicrosecondType>(answered)?;
        let rows = times.values().iter().zip(answered.values()).enumerate();
        Some(rows.map(move |(row, (&event, &at))| (keys.key(row).prediction, event, at)))
    }
}

impl Captured for PredictionMessage {
    const CONSUMER: &'static str = "monitor-predictions";
    const STREAM: &'static str = streams::PREDICTIONS;

    fn decode(message: &Message) -> Result<Self, String> {
        let (header, batch) = prediction_log::decode(&message.payload).map_err(|error| chain(&error))?;
        let model = subject::parse_predictions(&message.subject).map_err(|error| chain(&error))?;
        if model != header.model {
            return Err(format!("the subject names model {model}, the message {}", header.model));
        }
        for (declared, what) in [(header.lost_before, "lost"), (header.unsampled_before, "unsampled")] {
            if declared > MAX_LOST {
                return Err(format!("it declares {declared} rows {what}: expected at most {MAX_LOST}"));
            }
        }
        if header.sequence > MAX_SEQUENCE {
            return Err(format!("its sequence number is {}: expected at most {MAX_SEQUENCE}", header.sequence));
        }
        let batch = columns::with_replica(&batch, header.replica.as_str(), &header.incarnation.to_string())
            .map_err(|error| chain(&error))?;
        let join_keys = join_key::of_batch(&model, &batch).map_err(|error| chain(&error))?;
        Ok(Self { message_id: header.message_id(), header, batch, join_keys })
    }

    fn numbered(&self) -> Option<(Uuid, u64)> {
        Some((self.header.incarnation, self.header.sequence))
    }

    fn message_id(&self) -> &str {
        &self.message_id
    }

    fn model(&self) -> &ModelName {
        &self.header.model
    }

    fn rows(&self) -> usize {
        self.batch.num_rows()
    }

    fn join_keys(&self) -> &[KeyedRow] {
        &self.join_keys
    }

    fn delta(&self, before: &Log, timing: &Timing) -> LogDelta {
        let (rows, lost, unsampled) =
            (self.batch.num_rows() as u64, self.header.lost_before, self.header.unsampled_before);
        if self.header.is_test {
            return LogDelta { tests: rows, lost, unsampled, ..LogDelta::default() };
        }
        let late = columns::event_times(&self.batch).map_or(0, |times| {
            times.values().iter().filter(|&&time| timing.is_late(time, before.clock.latest())).count()
        });
        LogDelta { predictions: rows, lost, unsampled, late: late as u64, ..LogDelta::default() }
    }

    fn event_times(&self, horizon_ms: i64) -> Vec<(Uuid, Vec<i64>)> {
        if self.header.is_test {
            return Vec::new();
        }
        let may_advance = |&(_, event, at): &(u128, i64, i64)| {
            event_time::RANGE.contains(&event) && event <= (at / 1_000).saturating_add(horizon_ms)
        };
        let rows: Vec<(u128, i64, i64)> = self.times().into_iter().flatten().filter(may_advance).collect();
        let requests = rows.chunk_by(|(one, ..), (other, ..)| one == other);
        let times = |rows: &[(u128, i64, i64)]| rows.iter().map(|&(_, event, _)| event).collect();
        requests.map(|rows| (Uuid::from_u128(rows[0].0), times(rows))).collect()
    }

    fn drafts(messages: &[&Self]) -> Result<Vec<Draft>, Error> {
        // The columns are part of the key for the case that replicas disagree on a bundle's signature: their rows do not concatenate.
        let mut groups: BTreeMap<(&ModelName, u32, Digest, bool, String), Vec<&RecordBatch>> = BTreeMap::new();
        for message in messages.iter().filter(|message| message.batch.num_rows() > 0) {
            let header = &message.header;
            let columns = format!("{:?}", message.batch.schema().fields());
            let group =
                groups.entry((&header.model, header.model_version, header.bundle_digest, header.is_test, columns));
            group.or_default().push(&message.batch);
        }
        groups
            .into_iter()
            .map(|((model, model_version, bundle, is_test, _), batches)| {
                let batch = concat_batches(&batches[0].schema(), batches)?;
                let kind = if is_test { Kind::Test } else { Kind::Prediction };
                Ok(Draft { kind, model: model.clone(), model_version, bundle: Some(bundle), batch })
            })
            .collect()
    }
}
